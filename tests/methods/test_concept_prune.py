from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training import small_task

from safeflux.bake import bake, load_baked, parity
from safeflux.errors import OptionError
from safeflux.methods.concept_prune import concept_prune, skilled
from safeflux.models.flux1 import Flux1
from safeflux.train.task import TrainingTask

SITE = "transformer_blocks.0.ff_context"
FEW = {"images": 6, "batch": 6}


def closed(keep: Mapping[str, Tensor]) -> int:
    return sum(int((~k).sum()) for k in keep.values())


@pytest.fixture
def model(tiny: Path) -> Flux1:
    return Flux1.load(tiny)


@pytest.fixture
def task(model: Flux1) -> TrainingTask:
    return small_task(model)


@torch.no_grad()
def plant(model: Flux1, task: TrainingTask, unit: int, texts: list[str], *, loud: float) -> None:
    """Make a neuron of ``SITE`` fire at the token of ``texts`` that is least like any token of other prompts."""
    seen: list[Tensor] = []
    site = model.sites()[SITE]
    assert site.reads is not None
    handle = model.transformer.get_submodule(site.reads).register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    others = [text for text in task.cond if text not in texts]
    for some in (texts, others):
        model.sample(model.noise(range(len(some))), task.embed(some), steps=1)
    handle.remove()
    mine, rest = (rows.flatten(0, 1) for rows in seen)
    token = mine[torch.cdist(mine, rest).min(dim=1).values.argmax()]
    threshold = (float((rest @ token).max()) + float(token @ token)) / 2
    assert threshold < float(token @ token)  # some direction and level tells them apart
    model.transformer.get_parameter(f"{site.reads}.weight")[unit] = loud * token
    model.transformer.get_parameter(f"{site.reads}.bias")[unit] = -loud * threshold


def test_a_planted_neuron_is_found(model: Flux1, task: TrainingTask) -> None:
    texts = [pair.prompt.text for pair in task.pairs["sword"]]
    assert concept_prune(model, task, **FEW).keep[SITE][7]  # control: it is nobody's neuron yet
    plant(model, task, 7, texts, loud=5.0)
    assert not concept_prune(model, task, **FEW).keep[SITE][7]


def test_a_neuron_that_is_loud_for_everything_stays(model: Flux1, task: TrainingTask) -> None:
    """In the top for the concept, but as much so for its anchor and the rest."""
    site = model.sites()[SITE]
    with torch.no_grad():
        model.transformer.get_parameter(f"{site.reads}.weight")[7] = 0
        model.transformer.get_parameter(f"{site.reads}.bias")[7] = 100.0
    assert concept_prune(model, task, **FEW).keep[SITE][7]


def test_skilled_units_by_hand() -> None:
    named = torch.tensor([[5.0, 4.0, 1.0, 0.0], [0.0, 1.0, 9.0, 8.0]])
    base = torch.tensor([[6.0, 3.0, 0.0, 0.0], [0.0, 0.0, 8.0, 0.0]])
    assert skilled(named, base, 0.5).tolist() == [False, True, True, True]  # the first is louder for the base
    assert skilled(named, base, 0.25).tolist() == [False, False, True, False]
    assert skilled(named[:1], base[:1], 0.5).tolist() == [False, True, False, False]
    assert not skilled(named, base, 0.0).any()
    assert skilled(named, base, 0.01).any()  # a share of less than one unit is one
    assert skilled(named, base, 1.0).tolist() == [False, True, True, True]


def test_more_is_closed_for_a_larger_share_and_for_more_steps(model: Flux1, task: TrainingTask) -> None:
    counts = [
        closed(concept_prune(model, task, share=s, early=e, **FEW).keep) for s, e in ((0.0, 1.0), (0.01, 0.5), (0.1, 0.5), (0.1, 1.0))
    ]
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert counts[1] < counts[2]
    units = sum(len(k) for k in concept_prune(model, task, share=0.0, **FEW).keep.values())
    assert counts[3] <= 0.11 * units * task.steps * len(task.concepts)


def test_only_the_chosen_sites_are_cut(model: Flux1, task: TrainingTask) -> None:
    found = concept_prune(model, task, share=0.3, sites=("head", "norm1.gate_mlp"), **FEW)
    assert {model.sites()[n].kind for n in found.keep} == {"head", "modulation"}
    assert {model.sites()[n].group for n in concept_prune(model, task, images=1).keep} == {"ff", "ff_context", "proj_mlp"}
    with pytest.raises(OptionError, match="bones"):
        concept_prune(model, task, sites=("bones",))


def test_the_model_is_left_alone_and_the_same_task_gives_the_same_mask(model: Flux1, task: TrainingTask) -> None:
    before, told = {name: value.clone() for name, value in model.transformer.state_dict().items()}, list[tuple[int, int]]()
    a = concept_prune(model, task, **FEW, progress=lambda _w, done, total: told.append((done, total)))
    b = concept_prune(model, task, **FEW)
    assert all(torch.equal(a.keep[n], b.keep[n]) for n in a.keep)
    assert all(torch.equal(value, before[name]) for name, value in model.transformer.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.transformer.modules())
    assert told == [(done, 36) for done in (6, 12, 18, 24, 30, 36)]


def test_the_baked_model_is_the_masked_one(model: Flux1, task: TrainingTask, tiny: Path, tmp_path: Path) -> None:
    edit = concept_prune(model, task, share=0.2, **FEW)
    assert closed(edit.keep) > 0
    bake(tiny, edit, tmp_path / "baked")
    assert parity(model, load_baked(tiny, tmp_path / "baked"), edit, task)["max_relative_error"] <= 1e-5


@pytest.mark.parametrize("options", [{"share": 1.5}, {"share": -0.1}, {"early": 0.0}, {"images": 0}, {"batch": 0}])
def test_what_makes_no_sense_is_refused(model: Flux1, task: TrainingTask, options: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="wanted a share of 0 to 1"):
        concept_prune(model, task, **options)
