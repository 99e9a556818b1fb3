"""Harmless pictures edited, on the tiny FLUX."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from shaken import NEON, SWORD, attack, gap, named, same, task

from safeflux.attacks.edit import _harmless, flow_edit, image_to_image
from safeflux.attacks.taught import direct
from safeflux.errors import OptionError, StageError
from safeflux.models.flux1 import Flux1

SMALL = {"images": 3, "batch": 2}


def test_at_full_strength_nothing_of_the_picture_is_left(base: Flux1) -> None:
    source, target = base.encode(["a cat"] * 2), base.encode(["a sword"] * 2)
    found = image_to_image(base, torch.ones_like(base.noise([1, 2])), source, target, [1, 2], 4, 1.0)
    assert torch.allclose(found, base.sample(base.noise([1, 2]), target, steps=4), atol=1e-5)


def test_the_less_strength_the_more_of_the_picture_stays(base: Flux1) -> None:
    source, target = base.encode(["a cat"] * 2), base.encode(["a sword"] * 2)
    picture = base.sample(base.noise([7, 8]), source, steps=4)
    for change in (image_to_image, flow_edit):
        gaps = [(change(base, picture, source, target, [1, 2], 4, much) - picture).norm() for much in (0.25, 0.5, 1.0)]
        assert gaps[0] < gaps[1] < gaps[2]


def test_flow_edit_towards_what_is_shown_changes_nothing(base: Flux1) -> None:
    cond = base.encode(["a cat"] * 2)
    picture = base.sample(base.noise([7, 8]), cond, steps=4)
    assert torch.allclose(flow_edit(base, picture, cond, cond, [1, 2], 4, 1.0), picture, atol=1e-6)


def test_pictures_to_edit_are_of_the_same_sentence_without_the_concept(tmp_path: Path) -> None:
    comet = replace(SWORD, name="captain comet", category="character", targets=("captain comet",), retain=("baron bramble",))
    for concept, wanted in ((SWORD, ("tree", "house")), (NEON, ("picture",)), (comet, ("baron bramble",))):
        for prompt, seed in direct(task(tmp_path, "base", concept), 20):
            safe, other = _harmless(prompt, seed, concept, task(tmp_path))
            assert concept.targets[0] not in safe.text
            assert safe.expects[0] in wanted
            assert prompt.text.replace(concept.targets[0], safe.expects[0]) == safe.text
            assert other != seed


def test_both_models_edit_the_same_pictures(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    before, after = attack("edit", base, task(tmp_path), **SMALL), attack("edit", erased, task(tmp_path, "erased"), **SMALL)
    assert [(s.prompt, s.seed, s.attack) for s in after] == [(s.prompt, s.seed, s.attack) for s in before]
    assert {s.attack for s in after} == {"edit", "edit, img2img 0.5", "edit, FlowEdit 0.75", "edit, FlowEdit 1"}
    assert gap(before, after) > 0
    again = attack("edit", base, task(tmp_path, "erased"), **SMALL)
    assert same(again, before), "the base model as the erased one edits as the base model"
    assert len(named(after, "edit")) == 3


def test_what_it_needs(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="attack the base model first"):
        attack("edit", erased, task(tmp_path, "erased"), **SMALL)
    for wrong in ({"strength": 0.0}, {"curve": (1.5,)}, {"flowedit": (-1.0,)}, {"batch": 0}):
        with pytest.raises(OptionError, match="wanted strengths above 0"):
            attack("edit", base, task(tmp_path), **SMALL | wrong)
