"""Masks read back from baked weights, and put on top of one another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from safeflux.bake import bake
from safeflux.edits import empty_transformer, extended, read_mask
from safeflux.errors import ModelError
from safeflux.models.declared import find_sites
from safeflux.types import LowRank, Masks


def random_mask(directory: Path, *, closed: float, seed: int = 0) -> Masks:
    generator = torch.Generator().manual_seed(seed)
    sites = find_sites(empty_transformer(directory / "transformer")).values()
    return Masks({s.name: torch.rand(s.units, generator=generator) >= closed for s in sites})


def test_what_was_baked_is_read_back(tiny: Path, tmp_path: Path) -> None:
    edit = random_mask(tiny, closed=0.3)
    bake(tiny, edit, tmp_path / "baked")
    found = read_mask(tiny / "transformer", tmp_path / "baked" / "transformer")
    assert set(found.keep) == {name for name, keep in edit.keep.items() if not keep.all()}
    assert all(torch.equal(keep, edit.keep[name]) for name, keep in found.keep.items())


def test_the_base_itself_is_an_empty_mask(tiny: Path) -> None:
    assert read_mask(tiny / "transformer", tiny / "transformer").keep == {}


def test_weights_that_no_mask_makes_are_refused(tiny: Path, tmp_path: Path) -> None:
    bake(tiny, random_mask(tiny, closed=0.3), tmp_path / "baked")
    path = tmp_path / "baked" / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["proj_out.weight"] = weights["proj_out.weight"] * 1.01
    save_file(weights, path)
    with pytest.raises(ModelError, match=r"proj_out\.weight is not the base's under any mask"):
        read_mask(tiny / "transformer", tmp_path / "baked" / "transformer")


def test_extending_never_opens_what_was_closed(tiny: Path) -> None:
    earlier, edit = (random_mask(tiny, closed=0.3, seed=s) for s in (1, 2))
    partly = Masks(dict(list(edit.keep.items())[:3]))
    both = extended(earlier, partly)
    assert set(both.keep) == set(earlier.keep)
    for name, keep in both.keep.items():
        assert not (keep & ~earlier.keep[name]).any()
        assert torch.equal(keep, earlier.keep[name] & partly.keep.get(name, torch.tensor(True)))


def test_only_a_mask_extends_a_mask(tiny: Path) -> None:
    with pytest.raises(ModelError, match="LowRank"):
        extended(random_mask(tiny, closed=0.3), LowRank({}))
