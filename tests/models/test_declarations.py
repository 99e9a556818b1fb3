"""What a family declares is there, in diffusers and in the model; what is built otherwise is refused."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import diffusers
import pytest
from families import TINY, make, read
from torch import nn

import safeflux
from safeflux.edits import empty_transformer
from safeflux.errors import ModelError, OptionError
from safeflux.families import FAMILIES, Family
from safeflux.families.flux2 import FLUX2
from safeflux.families.parts import Modulation
from safeflux.models.declared import find_sites
from safeflux.models.sites import choose


@pytest.mark.parametrize("family", FAMILIES, ids=lambda one: one.name)
def test_a_declaration_names_what_there_is(family: Family) -> None:
    assert all(hasattr(diffusers, name) for name in (family.transformer, *family.published.values()))
    assert hasattr(safeflux, family.removed)
    top = [part for blocks in family.blocks if not blocks.at for part in blocks.parts if isinstance(part, Modulation)]
    per_block = [part for blocks in family.blocks if blocks.at for part in blocks.parts if isinstance(part, Modulation)]
    assert (bool(top), bool(per_block)) == {"shared": (True, False), "per block": (False, True), "none": (False, False)}[family.scope]
    if family.single_file:
        module, _, name = family.single_file.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


def test_shared_modulation_is_masked_only_where_it_is_named(tmp_path: Path) -> None:
    [flux2] = [one for one in TINY if one.family is FLUX2]
    sites = find_sites(read(make(flux2, tmp_path)))
    for wanted in (["modulation"], ["neuron", "modulation"]):
        with pytest.raises(
            OptionError, match=r"acts in all blocks at once: name double_stream_modulation_img, .*, single_stream_modulation"
        ):
            choose(sites, wanted)
    named = choose(sites, ["single_stream_modulation", "double_stream_modulation_img.gate_mlp"])
    assert {site.group.partition(".")[0] for site in named.values()} == {"single_stream_modulation", "double_stream_modulation_img"}
    assert not any(site.shared for site in choose(sites, ["neuron", "head"]).values())


def test_transformers_of_no_family_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "HunyuanVideoTransformer3DModel"}))
    with pytest.raises(
        ModelError, match=r"config\.json: .*HunyuanVideoTransformer3DModel.*; wanted one of FluxTransformer2DModel \(FLUX\.1\)"
    ):
        empty_transformer(tmp_path)
    with pytest.raises(ModelError, match="of class 'Linear'; wanted one of"):
        find_sites(nn.Linear(1, 1))


def test_transformers_built_otherwise_than_declared_are_refused(tmp_path: Path) -> None:
    model = read(make(TINY[0], tmp_path))
    block = model.transformer_blocks[0]
    for name, other, says in (
        ("ff", nn.Identity(), "has no ff.net.0.proj"),
        ("norm1", nn.ModuleDict({"linear": nn.Linear(32, 7 * 32)}), "puts out 224 numbers; wanted 6 times 32"),
    ):
        usual = getattr(block, name)
        setattr(block, name, other)
        with pytest.raises(ModelError, match=says):
            find_sites(model)
        setattr(block, name, usual)
    block.ff.net[2] = nn.Linear(9, 32)
    with pytest.raises(ModelError, match=r"transformer_blocks\.0\.ff is not as wide at its entry as at its exit"):
        find_sites(model)
