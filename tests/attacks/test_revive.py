"""What comes back of zeroed weights: single ones do, whole neurons do not, whatever the layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor
from training import SWORD

from safeflux.attacks.revive import completed, filled, matrices, revive
from safeflux.bake import bake, load_baked
from safeflux.errors import OptionError
from safeflux.layouts import Layout
from safeflux.models.flux1 import Flux1
from safeflux.types import AuditTask, Masks

SETTINGS = {"top": 0.6, "scale": False, "threshold": 0.02, "iterations": 60}
SITE = "transformer_blocks.0.ff"


@pytest.fixture(scope="module")
def structured(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny FLUX with feed-forward matrices of low rank and little noise: trained weights have structure, random ones have none."""
    place = Path(shutil.copytree(tiny, tmp_path_factory.mktemp("structured") / "model"))
    transformer = FluxTransformer2DModel.from_pretrained(place / "transformer")
    torch.manual_seed(5)
    for path in matrices(SimpleNamespace(sites=Flux1.load(tiny).sites)):  # type: ignore[arg-type]
        weight = transformer.get_submodule(path).weight
        rows, columns = weight.shape
        weight.data = (torch.randn(rows, 3) @ torch.randn(3, columns) + 0.05 * torch.randn(rows, columns)) * 0.05
    transformer.save_pretrained(place / "transformer")
    return place


def likeness(model: Flux1, base: dict[str, Tensor], gone: dict[str, Tensor]) -> float:
    """Correlation of what stands in erased places with what stood there."""
    pairs = [(model.transformer.get_submodule(path).weight[where].flatten(), base[path][where].flatten()) for path, where in gone.items()]
    now, before = (torch.cat(parts).double() for parts in zip(*pairs, strict=True))
    return float((now @ before) / (now.norm() * before.norm()).clamp(min=1e-30))


def weights(model: Flux1) -> dict[str, Tensor]:
    return {path: model.transformer.get_submodule(path).weight.detach().clone() for path in matrices(model)}


@pytest.mark.parametrize(("guess", "least", "most"), [("completion", 0.8, 1.0), ("random", -0.2, 0.2)])
def test_single_zeros_come_back_and_at_random_they_do_not(structured: Path, guess: str, least: float, most: float) -> None:
    """The control: an attack that cannot do this shows nothing where it finds nothing."""
    model = Flux1.load(structured)
    base, gone = weights(model), {}
    for path, weight in base.items():
        gone[path] = weight.abs() > weight.abs().flatten().kthvalue(int(0.97 * weight.numel())).values
        model.transformer.get_submodule(path).weight.data[gone[path]] = 0
    assert likeness(model, base, gone) == 0
    cut = weights(model)
    with filled(model.transformer, matrices(model), guess=guess, **SETTINGS) as count:  # type: ignore[arg-type]
        assert count == sum(int(where.sum()) for where in gone.values())
        assert least <= likeness(model, base, gone) <= most
    assert all(torch.equal(weight, cut[path]) for path, weight in weights(model).items())


def test_of_whole_neurons_nothing_is_guessed_but_what_they_all_share(structured: Path, tmp_path: Path) -> None:
    keep = torch.arange(128) >= 4
    bake(structured, Masks({SITE: keep}), tmp_path)
    base, model = Flux1.load(structured), load_baked(structured, tmp_path)
    up = f"{SITE}.net.0.proj"
    with filled(model.transformer, matrices(model), guess="completion", **SETTINGS) as count:  # type: ignore[arg-type]
        assert count > 0
        guessed = model.transformer.get_submodule(up).weight[~keep]
        assert (guessed - guessed.mean(0)).abs().max() < 1e-3 * model.transformer.get_submodule(up).weight.abs().max()
        assert likeness(model, weights(base), {up: ~keep}) < 0.5


@pytest.mark.parametrize("layout", [Layout(decoys=True, secret=b"s"), Layout("removed", secret=b"s")], ids=["decoys", "removed"])
def test_where_no_zeros_are_there_is_nothing_to_guess(structured: Path, tmp_path: Path, layout: Layout) -> None:
    bake(structured, Masks({SITE: torch.arange(128) >= 4}), tmp_path, layout)
    model = load_baked(structured, tmp_path)
    with filled(model.transformer, matrices(model), guess="completion", **SETTINGS) as count:  # type: ignore[arg-type]
        assert count == 0


def test_the_base_is_drawn_as_it_is_and_the_erased_model_is_put_back(structured: Path) -> None:
    model = Flux1.load(structured)
    task = AuditTask((SWORD,), (), seed=1, steps=1, batch=2, which="base")
    before = weights(model)
    base = list(revive(model, task, images=2))
    weight = model.transformer.get_submodule(f"{SITE}.net.2").weight
    weight.data[:, ::3] = 0
    cut = weight.clone()
    erased = list(revive(model, AuditTask((SWORD,), (), seed=1, steps=1, batch=2, which="erased"), images=2))
    assert [(s.prompt, s.seed, s.attack) for s in base] == [(s.prompt, s.seed, s.attack) for s in erased]
    assert torch.equal(weight, cut)
    assert not torch.equal(before[f"{SITE}.net.2"], cut)


def test_a_matrix_of_low_rank_is_completed() -> None:
    torch.manual_seed(0)
    whole = torch.randn(40, 2) @ torch.randn(2, 60)
    missing = torch.rand(40, 60) < 0.1
    found = completed(torch.where(missing, 0.0, whole), missing, threshold=0.001, iterations=300)
    assert (found - whole)[missing].norm() < 0.1 * whole[missing].norm()
    assert torch.equal(found[~missing], whole[~missing])


@pytest.mark.parametrize("wrong", [{"top": 0.0}, {"top": 1.1}, {"threshold": 1.0}, {"iterations": 0}, {"images": 0}])
def test_options_that_make_no_sense_are_refused(structured: Path, wrong: dict[str, float]) -> None:
    task = AuditTask((SWORD,), (), seed=1, steps=1, batch=2, which="erased")
    with pytest.raises(OptionError, match="revive: top"):
        next(revive(SimpleNamespace(), task, **wrong))  # type: ignore[arg-type]
