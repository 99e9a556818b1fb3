"""Every layout draws what the masked model draws, gives nothing of an erased neuron away, and is read back as the mask it was made from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_bake import random_mask
from torch import Tensor
from training import small_task

from safeflux.bake import bake, load_baked, parity
from safeflux.edits import empty_transformer, placed, read_mask, weights
from safeflux.errors import ModelError
from safeflux.layouts import DENSE, EMPTY, Layout
from safeflux.matching import without_effect
from safeflux.models.declared import find_sites
from safeflux.models.flux1 import Flux1
from safeflux.models.sites import Site, gated
from safeflux.types import KEPT, LowRank, Masks

LAYOUTS = {
    "dense": DENSE,
    "decoys": Layout(decoys=True, secret=b"s"),
    "removed": Layout("removed", secret=b"s"),
    "multiple": Layout("removed", multiple=32, secret=b"s"),
}


def sites_of(directory: Path) -> dict[str, Site]:
    return find_sites(empty_transformer(directory / "transformer"))


def all_of(directory: Path) -> dict[str, Tensor]:
    return {name: read() for name, read in weights(directory / "transformer").items()}


@pytest.fixture(scope="module")
def edit(tiny: Path) -> Masks:
    """A third of everything, one site whole, and of one site three neurons, of another one."""
    mask = dict(random_mask(tiny, closed=0.3).keep)
    for name, gone in (("transformer_blocks.0.ff", 128), ("transformer_blocks.1.ff", 3), ("transformer_blocks.1.ff_context", 1)):
        mask[name] = torch.arange(len(mask[name])) >= gone
    return Masks(mask)


@pytest.mark.parametrize("name", LAYOUTS)
def test_it_draws_what_the_masked_model_draws_and_is_read_back(tiny: Path, tmp_path: Path, edit: Masks, name: str) -> None:
    bake(tiny, edit, tmp_path, LAYOUTS[name])
    base = Flux1.load(tiny)
    assert parity(base, load_baked(tiny, tmp_path), edit, small_task(base))["max_relative_error"] <= 1e-5
    found = read_mask(tiny / "transformer", tmp_path / "transformer").keep
    wanted = {site: keep for site, keep in edit.keep.items() if not keep.all()}
    assert found.keys() == wanted.keys()
    assert all(torch.equal(keep, wanted[site]) for site, keep in found.items())


def test_dense_is_the_masked_model_bit_by_bit(tiny: Path, tmp_path: Path, edit: Masks) -> None:
    bake(tiny, edit, tmp_path)
    model = Flux1.load(tiny)
    noise, cond = model.noise([1, 2]), model.encode(["a cat", "a tree"])
    base = model.sample(noise, cond, steps=2)
    with gated(model.transformer, model.sites(), {name: keep.float() for name, keep in edit.keep.items()}):
        masked = model.sample(noise, cond, steps=2)
    model.transformer.load_state_dict(all_of(tmp_path))
    assert torch.equal(model.sample(noise, cond, steps=2), masked)
    assert not torch.equal(base, masked)


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_number_of_an_erased_neuron_is_left(tiny: Path, tmp_path: Path, edit: Masks, name: str) -> None:
    """Of random weights hardly any two are the same, so a number tells whose it was."""
    bake(tiny, edit, tmp_path, LAYOUTS[name])
    before, after = all_of(tiny), all_of(tmp_path)
    for site in sites_of(tiny).values():
        gone = ~edit.keep[site.name]
        if site.kind == "neuron" and gone.any():
            rows, columns = before[f"{site.reads}.weight"], before[f"{site.writes}.weight"][:, site.column :]
            for lost, tensor in ((rows[gone], f"{site.reads}.weight"), (columns[:, gone].T, f"{site.writes}.weight")):
                assert torch.isin(lost, after[tensor]).float().mean(1).max() < 0.2, site.name
        if site.kind == "modulation":
            assert not after[f"{site.reads}.weight"][site.row : site.row + site.units][gone].any()


def test_removed_is_narrower_and_ordered_anew(tiny: Path, tmp_path: Path, edit: Masks) -> None:
    sites = sites_of(tiny)
    bake(tiny, edit, tmp_path, LAYOUTS["removed"])
    after = all_of(tmp_path)
    first = placed(edit, tiny / "transformer", LAYOUTS["removed"])
    other = placed(edit, tiny / "transformer", Layout("removed", secret=b"t"))
    config = json.loads((tmp_path / "transformer" / "config.json").read_text())
    assert config["widths"] == {name: int(edit.keep[name].sum()) for name in first}
    for name, slot in first.items():
        site, width = sites[name], int(edit.keep[name].sum())
        assert after[f"{site.reads}.weight"].shape[0] == after[f"{site.reads}.bias"].shape[0] == width
        assert after[f"{site.writes}.weight"].shape[1] == site.column + width
        assert torch.equal(slot.sort().values, edit.keep[name].nonzero().flatten())
        assert width < 2 or not (torch.equal(slot, slot.sort().values) or torch.equal(slot, other[name]))


def test_a_multiple_is_filled_with_zeros_and_never_wider_than_before(tiny: Path, edit: Masks) -> None:
    for name, slot in placed(edit, tiny / "transformer", LAYOUTS["multiple"]).items():
        kept = int(edit.keep[name].sum())
        assert len(slot) == min(-(-kept // 32) * 32, len(edit.keep[name]))
        assert int((slot == EMPTY).sum()) == len(slot) - kept


def test_decoys_look_like_their_neighbours_and_do_nothing(tiny: Path, tmp_path: Path, edit: Masks) -> None:
    bake(tiny, edit, tmp_path, LAYOUTS["decoys"])
    after = all_of(tmp_path)
    for name, slot in placed(edit, tiny / "transformer", LAYOUTS["decoys"]).items():
        site, empty = sites_of(tiny)[name], slot == EMPTY
        rows, bias = after[f"{site.reads}.weight"], after[f"{site.reads}.bias"]
        columns = after[f"{site.writes}.weight"][:, site.column :]
        assert without_effect(site, slot, weights(tmp_path / "transformer"))
        if empty.all():
            assert not rows.any()
            continue
        assert all(torch.isin(rows[empty][:, i], rows[~empty][:, i]).all() for i in range(rows.shape[1]))
        assert torch.isin(bias[empty], bias[~empty]).all()
        assert bool(columns[:, empty].any(0).all()) == (int(empty.sum()) > 1)


def test_decoys_that_would_do_something_are_no_mask(tiny: Path, tmp_path: Path, edit: Masks) -> None:
    bake(tiny, edit, tmp_path, LAYOUTS["decoys"])
    path = tmp_path / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors, site = load_file(path), sites_of(tiny)["single_transformer_blocks.0.proj_mlp"]
    empty = int((placed(edit, tiny / "transformer", LAYOUTS["decoys"])[site.name] == EMPTY).nonzero()[0])
    tensors[f"{site.writes}.weight"][:, site.column + empty] *= 2
    save_file(tensors, path)
    with pytest.raises(ModelError, match="not the base's and change what it draws"):
        read_mask(tiny / "transformer", tmp_path / "transformer")


def test_kept_neurons_are_written_where_they_are_asked_for(tiny: Path, tmp_path: Path, edit: Masks) -> None:
    for name, layout in LAYOUTS.items():
        bake(tiny, edit, tmp_path / name, layout, kept=True)
    bake(tiny, edit, tmp_path / "without", LAYOUTS["removed"])
    assert {path.parent.name for path in tmp_path.glob(f"*/{KEPT}")} == {"removed", "multiple"}
    wanted = placed(edit, tiny / "transformer", LAYOUTS["removed"])
    found = load_file(tmp_path / "removed" / KEPT)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(slot.long(), wanted[name]) for name, slot in found.items())


def test_an_edit_that_takes_no_neurons_is_dense_and_stock(tiny: Path, tmp_path: Path) -> None:
    bake(tiny, LowRank({"context_embedder": (torch.eye(2, 128), torch.eye(32, 2))}), tmp_path, LAYOUTS["removed"])
    for name in ("model_index.json", "transformer/config.json"):
        assert (tmp_path / name).read_bytes() == (tiny / name).read_bytes()


def test_the_same_secret_gives_the_same_bytes(tiny: Path, tmp_path: Path, edit: Masks) -> None:
    for name in ("decoys", "removed"):
        for again in "ab":
            bake(tiny, edit, tmp_path / name / again, LAYOUTS[name])
        one, two = (tmp_path / name / again / "transformer" / "diffusion_pytorch_model.safetensors" for again in "ab")
        assert one.read_bytes() == two.read_bytes()
