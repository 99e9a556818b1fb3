from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from safeflux.bake import bake, in_force, load_baked, parity
from safeflux.errors import OptionError
from safeflux.methods import esd as method
from safeflux.methods.esd import Batch, esd
from safeflux.models.flux1 import Flux1
from safeflux.models.flux1_layers import linear_layers
from safeflux.train.task import TrainingTask
from safeflux.types import TextCond

SHORT = {"updates": 12, "batch": 2}
FIXED = [
    Batch(["a sword at night", "a neon of a cat", "a cat", "a key"], ["a shape at night", ""], [1, 2, 3, 4], level) for level in (0, 1)
]


def state(model: Flux1) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.transformer.state_dict().items()}


def loss(model: Flux1, task: TrainingTask, tensors: Mapping[str, Tensor], *, eta: float = 0.5, preserve: float = 1.0) -> float:
    """Of a fixed batch, at every noise level, on the base model's path."""
    student = {name: nn.Parameter(value) for name, value in tensors.items()}
    return sum(method._loss(model, task, batch, student, eta, preserve, own_path=False).item() for batch in FIXED)


@torch.no_grad()
def velocities(model: Flux1, task: TrainingTask, texts: list[str], level: int) -> tuple[Tensor, Tensor]:
    """x_t of the concept prompts of ``FIXED``, one step into the rollout for level 1, and the velocities there for ``texts``."""
    sigmas, x = model.sigmas(task.steps), model.noise([1, 2])
    if level:
        x = x + (sigmas[1] - sigmas[0]) * model.velocity(x, sigmas[0], task.embed(FIXED[0].texts[:2]))
    return x, model.velocity(x, sigmas[level], task.embed(texts))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("level", [0, 1])
def test_untrained_the_loss_is_the_way_from_concept_to_anchor(model: Flux1, task: TrainingTask, eta: float, level: int) -> None:
    """v0(c) - (v0(a) - eta (v0(c) - v0(a))) = (1 + eta)(v0(c) - v0(a)); and what is preserved is where it should be."""
    batch = FIXED[level]
    (_, concept), (_, anchor) = (velocities(model, task, texts, level) for texts in (batch.texts[:2], batch.anchors))
    own = {name: nn.Parameter(model.transformer.get_parameter(name).clone()) for name in ("proj_out.weight",)}
    for own_path in (False, True):
        found = method._loss(model, task, batch, own, eta, 5.0, own_path)
        assert found.item() == pytest.approx((1 + eta) ** 2 * float((concept - anchor).square().mean()), rel=1e-4)


@pytest.mark.parametrize("path", ["student", "teacher"])
def test_training_lowers_the_loss_of_pictures_it_did_not_see(model: Flux1, task: TrainingTask, path: str) -> None:
    found = esd(model, task, updates=10, batch=4, rate=3e-3, path=path).tensors
    untrained = {name: model.transformer.get_parameter(name).detach().clone() for name in found}
    assert loss(model, task, found) < 0.85 * loss(model, task, untrained)


def test_the_student_is_asked_for_the_concept(model: Flux1, task: TrainingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for the anchor; and it is the student, once an update, whose answer has a gradient."""
    asked: list[TextCond] = []
    velocity = model.velocity

    def spy(x: Tensor, sigma: Tensor, cond: TextCond) -> Tensor:
        asked.extend([cond] if torch.is_grad_enabled() else [])
        return velocity(x, sigma, cond)

    monkeypatch.setattr(model, "velocity", spy)
    esd(model, task, updates=3, batch=2)
    assert len(asked) == 3
    for update, cond in enumerate(asked):
        texts = method._draw(task, 2, update, retain=True).texts
        assert torch.equal(cond.sequence, task.embed(texts).sequence)
        assert any(word in texts[0] for word in ("sword", "neon"))


def test_training_leads_from_the_concept_to_its_anchor(model: Flux1, task: TrainingTask) -> None:
    concepts, anchors = FIXED[0].texts[:2], FIXED[0].anchors
    edit = esd(model, task, updates=15, batch=4, rate=1e-2, eta=1.0, preserve=0.0)
    (_, concept), (_, anchor) = velocities(model, task, concepts, 0), velocities(model, task, anchors, 0)
    with in_force(model, edit):
        _, after = velocities(model, task, concepts, 0)
    away = concept - anchor
    assert float(((after - anchor) * away).sum() / away.square().sum()) < 0.5  # it was 1; the anchor's is 0, the target -1


def test_preserving_keeps_retained_prompts(model: Flux1, task: TrainingTask) -> None:
    gaps = []
    noise, cond = model.noise([8, 9]), task.embed(["a cross", "a house"])
    before = model.sample(noise, cond, steps=2)
    for preserve in (0.0, 3.0):
        with in_force(model, esd(model, task, updates=10, batch=4, rate=3e-3, preserve=preserve)):
            gaps.append(float((model.sample(noise, cond, steps=2) - before).square().mean()))
    assert gaps[1] < 0.5 * gaps[0]


def test_the_model_is_left_as_it_was(model: Flux1, task: TrainingTask) -> None:
    before, own = state(model), dict(model.transformer.named_parameters())
    found = esd(model, task, **SHORT)
    assert not any(torch.equal(value, before[name]) for name, value in found.tensors.items() if name.endswith("weight"))
    assert all(torch.equal(value, before[name]) for name, value in model.transformer.state_dict().items())
    assert list(model.transformer.state_dict()) == list(before)
    assert all(value is own[name] and not value.requires_grad for name, value in model.transformer.named_parameters())


def test_a_failure_in_the_middle_leaves_the_model_as_it_was(model: Flux1, task: TrainingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    before, own, swapped = state(model), dict(model.transformer.named_parameters()), 0
    velocity = model.velocity

    def dies(x: Tensor, *args: object) -> Tensor:
        nonlocal swapped
        swapped += model.transformer.get_parameter("transformer_blocks.0.attn.to_q.weight").requires_grad
        if swapped == 3:
            raise KeyboardInterrupt
        return velocity(x, *args)

    monkeypatch.setattr(model, "velocity", dies)
    with pytest.raises(KeyboardInterrupt):
        esd(model, task, **SHORT)
    assert swapped == 3  # it happened while the student was in place
    assert all(value is own[name] and torch.equal(value, before[name]) for name, value in model.transformer.named_parameters())


@pytest.mark.parametrize("sites", ["text-attention", "attention", "ff"])
def test_only_the_chosen_layers_are_trained(model: Flux1, task: TrainingTask, sites: str) -> None:
    found = esd(model, task, updates=1, batch=2, sites=sites).tensors
    layers = linear_layers(model.transformer, sites)
    assert set(found) == {f"{path}.{part}" for path in layers for part in ("weight", "bias")}
    words = {"text-attention": ("add_",), "attention": ("attn.",), "ff": ("ff", "proj_mlp", "proj_out")}[sites]
    assert all(any(word in path for word in words) for path in layers)
    assert all(isinstance(layer, nn.Linear) for layer in layers.values())


def test_an_interrupted_training_ends_with_the_same_weights(model: Flux1, task: TrainingTask, tmp_path: Path) -> None:
    whole, again, told = esd(model, task, **SHORT).tensors, esd(model, task, **SHORT).tensors, list[int]()
    assert all(torch.equal(whole[n], again[n]) for n in whole)  # the same task, the same weights

    def dies(what: str, done: int, total: int) -> None:
        if done == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        esd(model, task, **SHORT, scratch=tmp_path, progress=dies)
    resumed = esd(model, task, **SHORT, scratch=tmp_path, progress=lambda _w, done, _t: told.append(done)).tensors
    assert told == [10, 11]  # from the checkpoint after ten updates
    assert all(torch.equal(whole[n], resumed[n]) for n in whole)


def test_updates_draw_afresh_and_visit_every_level_and_concept(task: TrainingTask) -> None:
    batches = [method._draw(task, 3, update, retain=True) for update in range(12)]
    assert batches[4] == method._draw(task, 3, 4, retain=True)
    assert len({seed for batch in batches for seed in batch.seeds}) == 12 * 3
    assert {batch.level for batch in batches} == {0, 1}
    assert [(len(batch.texts), len(batch.anchors)) for batch in batches] == [(3, 2)] * 12
    assert all("neon" in batch.texts[1] and batch.anchors[1] == "" for batch in batches)
    assert len(method._draw(task, 3, 0, retain=False).anchors) == 3


def test_the_baked_model_is_the_edited_one(model: Flux1, task: TrainingTask, tiny: Path, tmp_path: Path) -> None:
    edit = esd(model, task, updates=3, batch=4, rate=1e-3)
    bake(tiny, edit, tmp_path / "baked")
    assert parity(model, load_baked(tiny, tmp_path / "baked"), edit, task)["max_relative_error"] <= 1e-5


@pytest.mark.parametrize("options", [{"batch": 0}, {"preserve": -1.0}])
def test_what_makes_no_sense_is_refused(model: Flux1, task: TrainingTask, options: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="wanted a batch of at least 1"):
        esd(model, task, **options)
