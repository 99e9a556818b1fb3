from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training import Script, small_task

from safeflux.errors import StageError
from safeflux.models.flux1 import Flux1
from safeflux.train.held_out import GENERAL, HeldOut, groups, near
from safeflux.types import Prompt


@pytest.fixture(scope="module")
def model(tiny: Path) -> Flux1:
    return Flux1.load(tiny)


def test_rates_are_over_what_the_base_model_draws(model: Flux1) -> None:
    shows = Script(model, then=lambda p: p.concept != "sword", base=lambda p: p.text != "held out cat")
    held = HeldOut(model, small_task(model, shows=shows), model.sites(), seen=5, kept=7, seed=1, batch=3)
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
    held = HeldOut(model, small_task(model, shows=script), model.sites(), seen=5, kept=7, seed=1, batch=2)
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
    held = HeldOut(model, task, model.sites(), seen=10, kept=10, seed=1, batch=64)
    seeds = [seed for line in held.lines for seed in line.seeds]
    assert len(set(seeds)) == len(seeds)
    general = next(line for line in held.lines if line.name == GENERAL)
    assert len({p.text for p in general.prompts}) == 5


def test_without_a_detector_nothing_is_claimed(model: Flux1) -> None:
    with pytest.raises(StageError, match="no detector"):
        HeldOut(model, replace(small_task(model), shows=None), model.sites(), seen=2, kept=2, seed=1, batch=2)


def test_neighbours_belong_to_their_concept(model: Flux1) -> None:
    task = small_task(model)
    assert groups(task, task.retain) == {"neighbours of sword": [0], GENERAL: [1, 2, 3]}
