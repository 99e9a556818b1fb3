"""The baseline is the recipe that was described: its schedule and what comes of it. Its parts: ``test_mce_2025_parts``."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from safeflux.errors import OptionError
from safeflux.methods import mce_2025 as method
from safeflux.methods.mce_2025 import Example, Recipe, mce_2025
from safeflux.models.flux1 import Flux1
from safeflux.models.sites import gated
from safeflux.train.task import TrainingTask
from safeflux.types import Prompt

RECIPE = Recipe(epochs=5, beta=0.1, rate=0.5, decay=1e-2, initial=3.0, temperature=0.83, eps=0.5, accumulate=4, steps=5, noise_seed=48)
SHORT: dict[str, Any] = {"epochs": 1, "train_steps": 2, "accumulate": 2}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


# Schedule


def events(monkeypatch: pytest.MonkeyPatch, *, dies: int = 0) -> list[str | float]:
    """Texts of samples, and "update" for each update, in order. The ``dies``-th sample is never swept."""
    seen: list[str | float] = []
    real, step = method.sweep, torch.optim.AdamW.step

    def spied(model: Any, logits: Any, noise: Any, cond: Any, example: Example, steps: int) -> float:
        seen.append(example.text)
        if sum(one != "update" for one in seen) == dies:
            raise KeyboardInterrupt
        return real(model, logits, noise, cond, example, steps)

    def update(self: Any, *args: Any) -> None:
        seen.append("update")
        step(self, *args)

    monkeypatch.setattr(method, "sweep", spied)
    monkeypatch.setattr(torch.optim.AdamW, "step", update)
    return seen


def test_updates_follow_samples_0_4_8_of_each_epoch(model: Flux1, alone: TrainingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Always in the same order, a pair and a general prompt in turn while there are any; the neighbour is never retained."""
    pair = alone.pairs["sword"][0]
    neighbour = Prompt("a cross", None, ("cross",), "neighbour")
    five = replace(alone, pairs={"sword": (pair,) * 5}, retain=(neighbour, *alone.retain[1:]))
    seen = events(monkeypatch)
    mce_2025(model, five, epochs=2, train_steps=1)
    kept = [p.text for p in alone.retain[1:]]
    s = pair.prompt.text
    epoch = [s, "update", kept[0], s, kept[1], s, "update", kept[2], s, s]
    assert seen == [*epoch, *epoch]
    seen.clear()
    mce_2025(model, replace(five, pairs={"sword": (pair,) * 6}), epochs=1, train_steps=1)
    assert [i for i, one in enumerate(seen) if one == "update"] == [1, 6, 11]  # after samples 0, 4 and 8


def test_what_is_left_over_leaks_into_the_next_epoch(model: Flux1, alone: TrainingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two pairs and two general prompts, an epoch's one update has one sample in the first epoch and four later on."""
    seen = events(monkeypatch)
    cleared: list[int] = []
    clear = torch.optim.AdamW.zero_grad

    def forget(self: Any, set_to_none: bool = True) -> None:
        cleared.append(len(seen))
        clear(self, set_to_none=set_to_none)

    monkeypatch.setattr(torch.optim.AdamW, "zero_grad", forget)
    mce_2025(model, alone, epochs=3, train_steps=1)
    updates = [i for i, one in enumerate(seen) if one == "update"]
    assert updates == [1, 6, 11]
    assert len(seen) == 11 + 1 + 3, "the last epoch's three are lost"
    assert cleared == [i + 1 for i in updates], "gradients are forgotten after an update and nowhere else"


def test_the_first_update_is_adamw_on_one_sample(model: Flux1, alone: TrainingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decay shrinks every logit by half a per cent; the few with a gradient also move by the learning rate against its sign."""
    grads: list[Tensor] = []
    step = torch.optim.AdamW.step

    def update(self: Any, *args: Any) -> None:
        grads.extend(p.grad.clone() for group in self.param_groups for p in group["params"])
        step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", update)
    logits = method._train(model, alone, 0, replace(RECIPE, epochs=1, accumulate=100), None)
    grad, moved = torch.cat(grads), torch.cat(list(logits.values())) - 3.0 * (1 - 0.5 * 1e-2)
    assert torch.allclose(moved, -0.5 * grad / (grad.abs() + 1e-8), atol=1e-5)
    share = 1 - (1 - 0.034) ** 5  # a chance in each step's recomputation
    assert float((grad != 0).float().mean()) == pytest.approx(share, abs=4 * math.sqrt(share / len(grad)))


def test_five_steps_one_noise_and_the_bases_own_targets(model: Flux1, alone: TrainingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Tensor, Example, int]] = []

    def spied(_m: Any, logits: list[Tensor], noise: Tensor, _c: Any, example: Example, steps: int) -> float:
        seen.append((noise, example, steps))
        for logit in logits:
            logit.grad = torch.zeros_like(logit)
        return 0.0

    monkeypatch.setattr(method, "sweep", spied)
    mce_2025(model, alone, epochs=1)
    assert alone.steps == 2
    assert {steps for *_, steps in seen} == {5}
    wanted = model.noise([48])
    assert all(torch.equal(noise, wanted) for noise, *_ in seen)
    general = [p.text for p in alone.retain if p.kind == "general"]
    ends = [alone.pairs["sword"][0].anchor, general[0], alone.pairs["sword"][1].anchor, general[1]]
    for (_, example, _), text in zip(seen, ends, strict=True):
        assert torch.equal(example.target, model.sample(wanted, alone.embed([text]), steps=5))
    assert [example.weight for _, example, _ in seen] == [1.0, 0.1, 1.0, 0.1]


# The whole


@pytest.fixture(scope="module")
def whole(model: Flux1, task: TrainingTask) -> dict[str, Tensor]:
    return dict(mce_2025(model, task, **SHORT).keep)


def test_only_double_blocks_are_cut_and_no_heads(model: Flux1, whole: dict[str, Tensor]) -> None:
    sites = model.sites()
    assert {sites[name].group.partition(".")[0] for name in whole} == {"ff", "ff_context", "norm1_context"}
    assert all(name.startswith("transformer_blocks.") for name in whole)
    assert {name: len(gate) for name, gate in whole.items()} == {name: sites[name].units for name in whole}
    assert all(gate.dtype == torch.bool for gate in whole.values())
    assert all((~gate).any() for name, gate in whole.items() if sites[name].kind == "neuron")


def test_the_model_is_as_it_was(model: Flux1, alone: TrainingTask) -> None:
    noise, cond = model.noise([1]), alone.embed([alone.retain[0].text])
    before = model.sample(noise, cond, steps=2)
    mce_2025(model, alone, **SHORT)
    assert torch.equal(before, model.sample(noise, cond, steps=2))


def test_same_task_same_mask_and_another_seed_another(model: Flux1, task: TrainingTask, whole: dict[str, Tensor]) -> None:
    assert same(whole, dict(mce_2025(model, task, **SHORT).keep))
    assert not same(whole, dict(mce_2025(model, replace(task, seed=4), **SHORT).keep))


@pytest.mark.parametrize("dies", [3, 6])
def test_an_interrupted_training_ends_with_the_same_mask(
    model: Flux1, task: TrainingTask, whole: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies: int
) -> None:
    """Killed in the first or in the second concept of four samples each; a finished one is not trained again."""
    with monkeypatch.context() as patched:
        events(patched, dies=dies)
        with pytest.raises(KeyboardInterrupt):
            mce_2025(model, task, **SHORT, scratch=tmp_path)
    assert len(list(tmp_path.iterdir())) == (dies > 4)
    seen = events(monkeypatch)
    resumed = dict(mce_2025(model, task, **SHORT, scratch=tmp_path).keep)
    assert sum(one != "update" for one in seen) == (4 if dies > 4 else 8)
    assert same(whole, resumed)


def test_training_brings_a_concept_nearer_to_its_anchor(model: Flux1, alone: TrainingTask) -> None:
    """By the recipe's numbers, but for longer, from the noise it trains on. The control: the base model."""
    found = mce_2025(model, alone, epochs=15, train_steps=2).keep
    pairs, noise = alone.pairs["sword"], model.noise([48, 48])
    wanted = model.sample(noise, alone.embed([pair.anchor for pair in pairs]), steps=2)

    def error(gates: dict[str, Tensor]) -> float:
        with gated(model.transformer, model.sites(), gates):
            drawn = model.sample(noise, alone.embed([pair.prompt.text for pair in pairs]), steps=2)
        return float((drawn - wanted).square().mean())

    assert error({name: gate.float() for name, gate in found.items()}) < 0.9 * error({})


def test_progress_names_each_concept(model: Flux1, task: TrainingTask) -> None:
    seen: list[tuple[str, int, int]] = []
    mce_2025(model, task, **SHORT, progress=lambda *step: seen.append(step))
    assert seen == [(f"train the mask of {name}", i, 4) for name in ("sword", "neon") for i in range(4)]


@pytest.mark.parametrize("wrong", [{"keep": 0.0}, {"keep": 1.1}, {"epochs": 0}, {"accumulate": 0}, {"train_steps": 0}])
def test_numbers_that_make_no_sense_are_refused(model: Flux1, task: TrainingTask, wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="wanted keep above 0"):
        mce_2025(model, task, **wrong)
