from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from training import Script, small_task

from safeflux.errors import StageError
from safeflux.models.flux1 import Flux1
from safeflux.train.held_out import GENERAL, HeldOut, attacked, groups, near, planned, tried
from safeflux.train.pgd import Hunt
from safeflux.train.task import TrainingTask
from safeflux.types import Prompt


@pytest.fixture(scope="module")
def model(tiny: Path) -> Flux1:
    return Flux1.load(tiny)


def held_out(model: Flux1, task: TrainingTask, *, seen: int, kept: int, batch: int) -> HeldOut:
    return HeldOut(model, task, model.sites(), planned(task, seen=seen, kept=kept, seed=1), batch=batch)


def test_rates_are_over_what_the_base_model_draws(model: Flux1) -> None:
    shows = Script(model, then=lambda p: p.concept != "sword", base=lambda p: p.text != "held out cat")
    held = held_out(model, small_task(model, shows=shows), seen=5, kept=7, batch=3)
    assert {line.name: (len(line.prompts), line.keep) for line in held.lines} == {
        "sword": (5, False),
        "neon": (5, False),
        "neighbours of sword": (7, True),
    }  # the base model draws no cat, so nothing can be lost of it
    gates = {"transformer_blocks.0.ff": torch.ones(model.sites()["transformer_blocks.0.ff"].units)}
    assert held.measure(gates) == {"sword": 0.0, "neon": 1.0, "neighbours of sword": 1.0}


def test_a_rate_beyond_its_bound_is_told_before_all_is_drawn(model: Flux1) -> None:
    """Five pictures of each concept, seven of each line that must stay; the sword is seen, the cross is not."""
    seen: list[str] = []
    script = Script(model, then=lambda p: seen.append(p.text) or p.concept == "sword")
    held = held_out(model, small_task(model, shows=script), seen=5, kept=7, batch=2)
    gates = {"transformer_blocks.0.ff": torch.ones(model.sites()["transformer_blocks.0.ff"].units)}
    rates = held.measure(gates)
    whole = len(seen)
    assert rates == {"sword": 1.0, "neon": 0.0, "neighbours of sword": 0.0, GENERAL: 0.0}
    assert whole == sum(len(line.prompts) for line in held.lines)
    assert held.within(gates, rates) == rates  # a bound may be reached
    for bounds, most in (({"sword": 0.8}, whole), ({"sword": 0.4}, whole - 4), ({"sword": 0.0}, 4), ({near("sword"): 0.9}, 4)):
        seen.clear()
        assert held.within(gates, bounds) is None
        assert len(seen) <= most


def test_no_two_pictures_share_noise_and_held_out_prompts_take_turns(model: Flux1) -> None:
    task = small_task(model)
    more = tuple(Prompt(f"held out cat {i}", None, ("cat",), "general") for i in range(4))
    task = replace(task, held_retain=task.held_retain + more, cond={**task.cond, **{p.text: task.cond["held out cat"] for p in more}})
    held = held_out(model, task, seen=10, kept=10, batch=64)
    seeds = [seed for line in held.lines for seed in line.seeds]
    assert len(set(seeds)) == len(seeds)
    general = next(line for line in held.lines if line.name == GENERAL)
    assert len({p.text for p in general.prompts}) == 5


def test_without_a_detector_nothing_is_claimed(model: Flux1) -> None:
    with pytest.raises(StageError, match="no detector"):
        held_out(model, replace(small_task(model), shows=None), seen=2, kept=2, batch=2)


def test_neighbours_belong_to_their_concept(model: Flux1) -> None:
    task = small_task(model)
    assert groups(task, task.retain) == {"neighbours of sword": [0], GENERAL: [1, 2, 3]}


def test_attacks_are_made_on_the_very_gates_that_are_measured(model: Flux1) -> None:
    """What the detector is shown is nearer to the base model's pictures than what the same prompts draw under these gates."""
    shown: list[NDArray[np.uint8]] = []

    def look(prompts: Sequence[Prompt], images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        shown.append(images)
        return np.array([p.concept == "sword" for p in prompts]) | (len(shown) == 1)

    task = replace(small_task(model), shows=look)
    lines = tried(task, each=3, seed=1)
    assert [(line.name, line.keep, len(set(line.seeds))) for line in lines] == [(attacked(c), False, 3) for c in ("sword", "neon")]
    gates = {name: torch.zeros(site.units) for name, site in model.sites().items() if site.kind == "neuron"}
    attacks = HeldOut(model, task, model.sites(), lines, batch=8, hunt=Hunt(0.5, iterations=6, step=0.3, restarts=1, recompute=False))
    assert attacks.measure(gates) == {attacked("sword"): 1.0, attacked("neon"): 0.0}
    base, under_attack = shown
    shown.clear()
    HeldOut(model, task, model.sites(), lines, batch=8).measure(gates)
    _, as_it_is = shown
    apart = [float(np.square(some.astype(float) - base).mean()) for some in (under_attack, as_it_is)]
    assert apart[0] < 0.8 * apart[1]


def test_prompts_that_ask_for_something_else_as_well_are_not_attacked(model: Flux1) -> None:
    task = small_task(model)
    two = Prompt("held out sword and a cat", "sword", ("sword",), "direct", "a cat")
    task = replace(task, held_out={"sword": (*task.held_out["sword"], two), "neon": (replace(two, concept="neon"),)})
    assert {line.name: {p.text for p in line.prompts} for line in tried(task, each=4, seed=1)} == {attacked("sword"): {"held out sword"}}
