from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training import small_task

from safeflux.errors import OptionError
from safeflux.methods import mask as method
from safeflux.methods.mask import mask
from safeflux.models.flux1 import Flux1
from safeflux.train.task import TrainingTask

SHORT = {"updates": 12, "batch": 8, "rate": 0.5}


@pytest.fixture(scope="module")
def model(tiny: Path) -> Flux1:
    return Flux1.load(tiny)


@pytest.fixture(scope="module")
def task(model: Flux1) -> TrainingTask:
    return small_task(model)


def losses(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    seen: list[tuple[float, float]] = []
    step = method._step

    def spy(*args: object) -> tuple[float, float]:
        seen.append(step(*args))  # type: ignore[arg-type]
        return seen[-1]

    monkeypatch.setattr(method, "_step", spy)
    return seen


def test_training_brings_concepts_nearer_to_their_anchors(model: Flux1, task: TrainingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = losses(monkeypatch)
    found = mask(model, task, updates=40, batch=12, rate=0.5, beta=0.1, closing=0.0)
    first, last = (sum(e for e, _ in part) / 5 for part in (seen[:5], seen[-5:]))
    assert first == pytest.approx(1.0, rel=0.35)  # in units of the distance between concept and anchor
    assert last < 0.9 * first
    assert sum(int((~k).sum()) for k in found.keep.values()) > 0


def test_same_task_same_mask(model: Flux1, task: TrainingTask) -> None:
    a, b = (mask(model, task, **SHORT) for _ in range(2))
    assert all(torch.equal(a.keep[n], b.keep[n]) for n in a.keep)


def test_recomputation_gives_the_same_losses(model: Flux1, task: TrainingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = losses(monkeypatch)
    for recompute in (False, True):
        mask(model, task, updates=2, batch=8, recompute=recompute)
    assert seen[0] == pytest.approx(seen[2], rel=1e-4)
    assert seen[1] == pytest.approx(seen[3], rel=1e-2)


def test_an_interrupted_training_ends_with_the_same_mask(
    model: Flux1, task: TrainingTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = mask(model, task, **SHORT)
    step, calls = method._step, 0

    def dies(*args: object) -> tuple[float, float]:
        nonlocal calls
        calls += 1
        if calls == 12:
            raise KeyboardInterrupt
        return step(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(method, "_step", dies)
    with pytest.raises(KeyboardInterrupt):
        mask(model, task, **SHORT, scratch=tmp_path)
    seen = losses(monkeypatch)
    resumed = mask(model, task, **SHORT, scratch=tmp_path)
    assert len(seen) == 2  # from the checkpoint after ten updates
    assert all(torch.equal(whole.keep[n], resumed.keep[n]) for n in whole.keep)


def test_a_price_on_closing_keeps_more_open(model: Flux1, task: TrainingTask) -> None:
    free, dear = (
        sum(int((~k).sum()) for k in mask(model, task, updates=25, batch=8, rate=0.5, closing=price).keep.values()) for price in (0.0, 50.0)
    )
    assert dear < free


def test_only_the_chosen_kinds_of_sites_are_cut(model: Flux1, task: TrainingTask) -> None:
    found = mask(model, task, updates=1, batch=4, sites=("head",))
    assert {model.sites()[n].kind for n in found.keep} == {"head"}
    found = mask(model, task, updates=1, batch=4, sites=("ff", "norm1.gate_mlp", "norm1_context"))
    groups = {model.sites()[n].group for n in found.keep}
    assert "ff_context" not in groups
    assert {g for g in groups if g.startswith("norm1.")} == {"norm1.gate_mlp"}
    assert sum(g.startswith("norm1_context.") for g in groups) == 6


@pytest.mark.parametrize("sites", [(), ("neuron", "bones")])
def test_unknown_sites_are_refused(model: Flux1, task: TrainingTask, sites: tuple[str, ...]) -> None:
    with pytest.raises(OptionError, match="neuron, modulation, head"):
        mask(model, task, sites=sites)
