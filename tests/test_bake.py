from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training import small_task

from safeflux.bake import bake, in_force, load_baked, parity
from safeflux.edits import empty_transformer, erased, load_edit, save_edit
from safeflux.errors import ModelError, StageError
from safeflux.models.declared import find_sites
from safeflux.models.flux1 import Flux1
from safeflux.types import Edit, LowRank, Masks, Weights


def random_mask(directory: Path, *, closed: float) -> Masks:
    generator = torch.Generator().manual_seed(4)
    sites = find_sites(empty_transformer(directory / "transformer")).values()
    return Masks({s.name: torch.rand(s.units, generator=generator) >= closed for s in sites})


EDITS: dict[str, Edit] = {
    "low rank": LowRank({"context_embedder": (torch.eye(2, 128), torch.eye(32, 2))}),
    "weights": Weights({"proj_out.bias": torch.ones(64)}),
}


@pytest.mark.parametrize("kind", ["masks", "low rank", "weights"])
def test_baked_latents_are_the_edited_models(tiny: Path, tmp_path: Path, kind: str) -> None:
    edit = EDITS.get(kind) or random_mask(tiny, closed=0.3)
    bake(tiny, edit, tmp_path / "baked")
    base, baked = Flux1.load(tiny), load_baked(tiny, tmp_path / "baked")
    found = parity(base, baked, edit, small_task(base))
    assert found["max_relative_error"] <= 1e-5
    with pytest.raises(StageError, match="otherwise"):  # the check can fail: the base is not the baked model
        parity(base, Flux1.load(tiny), edit, small_task(base))


def test_an_empty_edit_bakes_to_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    bake(tiny, random_mask(tiny, closed=0.0), tmp_path / "baked")
    for path in (tmp_path / "baked").rglob("*.*"):
        assert path.read_bytes() == (tiny / path.relative_to(tmp_path / "baked")).read_bytes(), path


def test_an_erased_neuron_is_gone_on_both_sides(tiny: Path, tmp_path: Path) -> None:
    edit = random_mask(tiny, closed=0.3)
    bake(tiny, edit, tmp_path / "baked")
    weights = load_file(tmp_path / "baked" / "transformer" / "diffusion_pytorch_model.safetensors")
    for name, site in find_sites(empty_transformer(tiny / "transformer")).items():
        gone = (~edit.keep[name]).nonzero().flatten()
        if site.reads:
            assert not weights[f"{site.reads}.weight"][site.row + gone].any(), name
            assert not weights[f"{site.reads}.bias"][site.row + gone].any(), name
        if site.writes:
            columns = (site.column + gone[:, None] * site.width + torch.arange(site.width)).flatten()
            assert not weights[f"{site.writes}.weight"][:, columns].any(), name


def test_a_width_of_zero_is_allowed(tiny: Path, tmp_path: Path) -> None:
    base = Flux1.load(tiny)
    edit = Masks({n: torch.zeros(s.units, dtype=torch.bool) for n, s in base.sites().items() if s.kind == "neuron"})
    bake(tiny, edit, tmp_path / "baked")
    assert parity(base, load_baked(tiny, tmp_path / "baked"), edit, small_task(base))["max_relative_error"] <= 1e-5
    assert all(count["removed"] == count["units"] for count in erased(edit).values())


@pytest.mark.parametrize("kind", ["masks", "low rank", "weights"])
def test_an_edit_survives_its_file(tiny: Path, tmp_path: Path, kind: str) -> None:
    edit = EDITS.get(kind) or random_mask(tiny, closed=0.5)
    save_edit(edit, tmp_path / "edit.safetensors", {"method": "mask"})
    back = load_edit(tmp_path / "edit.safetensors")
    save_edit(back, tmp_path / "again.safetensors", {"method": "mask"})
    assert type(back) is type(edit)
    assert load_file(tmp_path / "edit.safetensors").keys() == load_file(tmp_path / "again.safetensors").keys()
    assert (tmp_path / "edit.safetensors").stat().st_size == (tmp_path / "again.safetensors").stat().st_size


def test_edits_that_do_not_fit_are_refused(tiny: Path, tmp_path: Path) -> None:
    wrong: list[Edit] = [
        Masks({"transformer_blocks.0.ff": torch.ones(3, dtype=torch.bool)}),
        Masks({"transformer_blocks.9.ff": torch.ones(128, dtype=torch.bool)}),
        Weights({"proj_out.bias": torch.ones(3)}),
        Weights({"no.such.tensor": torch.ones(3)}),
    ]
    for number, edit in enumerate(wrong):
        with pytest.raises(ModelError):
            bake(tiny, edit, tmp_path / str(number))


def test_an_edit_in_force_is_undone(tiny: Path) -> None:
    model = Flux1.load(tiny)
    noise, cond = model.noise([1]), model.encode(["a cat"])
    before = model.sample(noise, cond, steps=1)
    for edit in (*EDITS.values(), random_mask(tiny, closed=0.5)):
        with in_force(model, edit):
            assert not torch.equal(model.sample(noise, cond, steps=1), before)
        assert torch.equal(model.sample(noise, cond, steps=1), before)


def test_what_is_no_edit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(ModelError, match="not a safetensors file"):
        load_edit(tmp_path / "x.safetensors")
