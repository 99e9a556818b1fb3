"""The adversary that a mask is trained against: the audit's attack, spread over updates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from training import small_task

from safeflux.models.flux1 import Flux1
from safeflux.models.sites import gated
from safeflux.train import ball
from safeflux.train.adversary import Adversary, Attack
from safeflux.train.task import TrainingTask
from safeflux.types import Prompt, TextCond

RADIUS = 0.3


@pytest.fixture
def model(tiny: Path) -> Flux1:
    return Flux1.load(tiny)


def half(model: Flux1) -> dict[str, Tensor]:
    """A binary mask in which every second neuron is closed."""
    return {name: (torch.arange(site.units) % 2).float() for name, site in model.sites().items() if site.kind == "neuron"}


def everywhere(task: TrainingTask, shows: Callable[[Prompt], bool]) -> TrainingTask:
    """A detector that says of a picture what ``shows`` says of its prompt."""
    return replace(task, shows=lambda prompts, images: np.array([shows(prompt) for prompt in prompts]))


def distance(model: Flux1, adversary: Adversary, attack: Attack, mask: dict[str, Tensor]) -> float:
    """Of what the attack draws under the mask to what the base model draws from its prompt."""
    with gated(model.transformer, model.sites(), mask):
        drawn = model.sample(model.noise([attack.seed]), adversary.prompts([attack]), steps=2)
    return float((drawn - attack.concept).square().mean())


def learnt(adversary: Adversary, mask: dict[str, Tensor], wanted: list[int], calls: int) -> list[list[Attack]]:
    return [adversary.step(mask, wanted) for _ in range(calls)]


def test_an_attack_comes_nearer_to_what_the_base_model_draws_within_its_ball(model: Flux1) -> None:
    task, mask = small_task(model), half(model)
    adversary = Adversary(RADIUS, model, task, model.sites())
    attack = learnt(adversary, mask, [1, 0], 8)[-1][0]
    still = replace(attack, delta=ball.nothing(attack.delta))
    around = task.embed([task.pairs["sword"][attack.pair].prompt.text])
    assert distance(model, adversary, attack, mask) < 0.9 * distance(model, adversary, still, mask)
    assert max(float(length.max()) for length in ball.lengths(attack.delta, around)) <= RADIUS + 1e-6


def test_it_is_told_what_the_base_model_draws_for_anchor_and_prompt(model: Flux1) -> None:
    task = small_task(model)
    for attack in learnt(Adversary(RADIUS, model, task, model.sites()), half(model), [1, 1], 8)[-1]:
        pair = task.pairs[task.concepts[attack.owner].name][attack.pair]
        for latents, text in ((attack.anchor, pair.anchor), (attack.concept, pair.prompt.text)):
            assert torch.allclose(latents, model.sample(model.noise([attack.seed]), task.embed([text]), steps=2), atol=1e-5)


def test_only_attacks_that_have_all_their_steps_are_learnt_from(model: Flux1) -> None:
    """None while the first ones are under way; then as many of each concept as are wanted, if there are so many."""
    adversary, mask = Adversary(RADIUS, model, small_task(model), model.sites()), half(model)
    found = learnt(adversary, mask, [2, 1], 9)
    assert found[:6] == [[]] * 6
    assert [[attack.owner for attack in some] for some in found[6:]] == [[0, 0, 1]] * 3
    assert {attack.steps for some in found for attack in some} == {7}
    assert adversary.step(mask, [0, 9])[-1].owner == 1


def test_it_learns_from_the_latest_of_many_attacks(model: Flux1, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safeflux.train.adversary._BANK", 4)
    adversary, mask = Adversary(RADIUS, model, small_task(model), model.sites()), half(model)
    found = learnt(adversary, mask, [1, 0], 28)
    seen = [{attack.seed for some in found[part : part + 7] for attack in some} for part in (7, 21)]
    assert seen[0]
    assert not seen[0] & seen[1]


def test_later_attacks_begin_at_their_prompts_or_where_one_ended(model: Flux1) -> None:
    adversary, mask = Adversary(RADIUS, model, small_task(model), model.sites()), half(model)
    starts = []
    begin = adversary._start

    def noted(*args: Any) -> TextCond:
        starts.append(begin(*args))
        return starts[-1]

    adversary._start = noted  # type: ignore[method-assign]
    ends = {id(attack): attack for some in learnt(adversary, mask, [1, 0], 40) for attack in some}.values()
    still = [not start.sequence.any() for start in starts]
    assert still[:3] == [True] * 3
    assert 3 < sum(still) < len(still)
    moved = [start for start, at_prompt in zip(starts, still, strict=True) if not at_prompt]
    assert any(torch.allclose(moved[0].pooled, end.delta.pooled, atol=1e-6) for end in ends)


def test_anchors_that_show_the_concept_are_passed_over(model: Flux1) -> None:
    task = everywhere(small_task(model), lambda prompt: prompt.concept == "sword")
    attacks = learnt(Adversary(RADIUS, model, task, model.sites()), half(model), [2, 2], 7)[-1]
    assert {attack.owner for attack in attacks} == {1}


def test_it_is_known_how_many_attacks_succeeded_before_they_were_learnt_from(model: Flux1) -> None:
    """The tiny model's pictures show nothing, so the detector is told what to see: nothing of anchors, neon in the end."""
    seen: list[str] = []
    adversary = Adversary(RADIUS, model, everywhere(small_task(model), lambda prompt: prompt.concept in seen), model.sites())
    learnt(adversary, half(model), [1, 1], 6)
    assert adversary.success == {}
    seen.append("neon")
    learnt(adversary, half(model), [1, 1], 1)
    assert adversary.success == {"sword": pytest.approx(0.9**3), "neon": 1.0}


def test_without_a_radius_there_is_no_adversary(model: Flux1) -> None:
    adversary = Adversary(0.0, model, small_task(model), model.sites())
    assert adversary.step(half(model), [3, 3]) == []


@pytest.mark.parametrize("before", [0, 4, 16])
def test_an_adversary_goes_on_where_it_was(model: Flux1, before: int) -> None:
    task, mask = small_task(model), half(model)
    first, second = (Adversary(RADIUS, model, task, model.sites()) for _ in range(2))
    for _ in range(before):
        first.step(mask, [2, 1])
    second.restore(*first.state())
    for _ in range(9):
        ours, theirs = first.step(mask, [2, 1]), second.step(mask, [2, 1])
        assert [(a.owner, a.pair, a.seed, a.steps) for a in ours] == [(a.owner, a.pair, a.seed, a.steps) for a in theirs]
    assert ours
    assert torch.equal(ours[0].delta.sequence, theirs[0].delta.sequence)
    assert first.success == second.success
