"""What the report says of the weights: how the erasure stands in them, and what of it can be undone."""

from __future__ import annotations

from typing import Any

import pytest
from report_example import example, pictures

from safeflux import render, report, wording_weights

SITES = [
    {"site": "transformer_blocks.0.ff", "units": 64, "removed": 3},
    {"site": "transformer_blocks.0.norm1.shift_msa", "units": 32, "removed": 5},
    {"site": "transformer_blocks.0.norm1_context.gate_mlp", "units": 32, "removed": 1},
    {"site": "single_transformer_blocks.0.norm.scale_msa", "units": 32, "removed": 1},
]


def said(bake: dict[str, Any], **edit: Any) -> str:
    return " ".join(wording_weights.revivable({"bake": bake, "edit": {"kind": "masks", "sites": SITES, **edit}}))


@pytest.mark.parametrize(
    ("bake", "words"),
    [
        ({"layout": "dense", "decoys": False}, "zeros in their places"),
        ({"layout": "dense", "decoys": True}, "whose effects add up to nothing"),
        ({"layout": "removed", "decoys": False}, "not in the files"),
    ],
)
def test_each_layout_is_described_and_modulation_is_said_to_grow_again(bake: dict[str, Any], words: str) -> None:
    text = said(bake)
    assert words in text
    assert "7 of the units are outputs of modulation layers" in text
    assert "revivable" not in text


def test_single_zeros_are_marked_as_revivable() -> None:
    assert "1,234 single weights were zeroed" in said({}, scattered=1234)
    assert "These are revivable" in said({}, scattered=1234)


def test_an_edit_without_units_says_nothing() -> None:
    assert wording_weights.revivable({"bake": {"layout": "dense"}, "edit": {"kind": "weights", "sites": []}}) == []


def test_page_and_card_say_it() -> None:
    edit = {"kind": "masks", "sites": SITES, "scattered": 9}
    data = report.to_json(example(edit=edit))
    for text in (render.html(data, pictures()), render.model_card(data, {})):
        assert "few steps of fine-tuning grow them again" in " ".join(text.split())
        assert "9 single weights were zeroed" in " ".join(text.split())
