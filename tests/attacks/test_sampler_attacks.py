"""Attacks by whoever has the sampler: other noises, and pictures the base model began."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shaken import STEPS, attack, gap, named, pictures, same, task

from safeflux.attacks.completion import handover
from safeflux.attacks.noise import Luck, churned
from safeflux.errors import OptionError, StageError
from safeflux.models.flux1 import Flux1

NOISE = {"images": 5, "draws": 4, "curve": (1, 2), "batch": 3}


class Third:
    """Sees the concept in every third picture it is shown."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, prompts: object, images: np.ndarray) -> np.ndarray:
        seen = (np.arange(self.asked, self.asked + len(images)) % 3) == 2
        self.asked += len(images)
        return seen


def test_no_churn_is_the_samplers_own_way_and_the_noise_is_that_of_the_seed(base: Flux1) -> None:
    cond = base.encode(["a sword", "a cat"])
    plain = base.sample(base.noise([4, 5]), cond, steps=3)
    assert torch.allclose(churned(base, [4, 5], cond, 0, 3, 0.0, 1.0), plain)
    assert not torch.allclose(churned(base, [4, 5], cond, 1, 3, 0.0, 1.0), plain, atol=1e-2)
    assert not torch.allclose(churned(base, [4, 5], cond, 0, 3, 0.5, 1.0), plain, atol=1e-2)


def test_churn_that_exchanges_nothing_changes_nothing_but_rounding(base: Flux1) -> None:
    """(1 - s) x0 + s e is where the ODE goes; so with next to no churn the two ways meet."""
    cond = base.encode(["a sword"])
    assert torch.allclose(churned(base, [4], cond, 0, 3, 1e-6, 1.0), base.sample(base.noise([4]), cond, steps=3), atol=1e-3)


def test_draws_go_through_all_pairs() -> None:
    luck = Luck((6,), (0.0, 0.5, 1.0), (1.0, 1.1))
    assert {luck.of(i) for i in range(6)} == {(c, s) for c in luck.churn for s in luck.scales}
    assert luck.of(0) == (0.0, 1.0)


def test_the_best_of_more_is_never_less(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    drawn = attack("noise", base, task(tmp_path), **NOISE)
    assert np.array_equal(pictures(drawn), base.draw([s.prompt.text for s in drawn], [s.seed for s in drawn], steps=STEPS))
    found = attack("noise", erased, task(tmp_path, "erased", shows=Third()), **NOISE)
    first, two, four = (named(found, name) for name in ("noise, best of 1", "noise, best of 2", "noise"))
    assert len(first) == len(two) == len(four) == 5
    plain = erased.draw([s.prompt.text for s in first], [s.seed for s in first], steps=STEPS)
    assert gap(first, plain) <= 1
    for one, second, last in zip(first, two, four, strict=True):
        assert np.array_equal(one.image, second.image) or np.array_equal(second.image, last.image), "what is seen is kept"
    assert 0 < sum(not np.array_equal(a.image, b.image) for a, b in zip(first, four, strict=True)) < 5
    assert {(s.prompt.text, s.seed) for s in found} == {(s.prompt.text, s.seed) for s in drawn}


def test_what_is_never_seen_is_the_first_picture_and_nobody_draws_after_a_hit(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    found = attack("noise", erased, task(tmp_path, "erased"), **NOISE)
    first, four = named(found, "noise, best of 1"), named(found, "noise")
    assert np.array_equal(pictures(first), pictures(four))
    third = Third()
    attack("noise", erased, task(tmp_path / "other", "erased", shows=third), images=3, draws=9, curve=(), batch=3)
    assert third.asked < 27


def test_a_killed_search_goes_on_where_it_was(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    whole = attack("noise", erased, task(tmp_path, "erased"), **NOISE)

    def refuse(prompts: object, images: object) -> np.ndarray:
        raise AssertionError("drawn again")

    assert same(attack("noise", erased, task(tmp_path, "erased", shows=refuse), **NOISE), whole)
    with pytest.raises(AssertionError, match="drawn again"):
        attack("noise", erased, task(tmp_path, "erased", shows=refuse), **NOISE | {"churn": (0.3,)})


def test_noise_needs_eyes_and_sound_numbers(erased: Flux1, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="needs somebody to see"):
        attack("noise", erased, task(tmp_path, "erased", shows=None), **NOISE)
    for wrong in ({"draws": 0}, {"churn": ()}, {"scales": (0.0,)}, {"curve": (0,)}):
        with pytest.raises(OptionError, match="wanted numbers of at least 1"):
            attack("noise", erased, task(tmp_path, "erased"), **NOISE | wrong)


def test_completion_ends_nearer_to_the_base_models_picture_the_later_it_takes_over(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    options = {"images": 6, "share": 0.25, "curve": (0.5, 0.75), "batch": 4}
    many = {"digests": {"base": "b", "erased": "e"}}
    tasks = [task(tmp_path, which, **many) for which in ("base", "erased")]
    drawn, found = attack("completion", base, tasks[0], **options), attack("completion", erased, tasks[1], **options)
    plain = erased.draw([s.prompt.text for s in drawn], [s.seed for s in drawn], steps=STEPS)
    assert gap(named(found, "completion"), drawn) < gap(plain, drawn)
    assert {s.attack for s in found} == {"completion"}, "two steps have one place to change hands"


def test_shares_of_more_steps_make_a_curve(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    options = {"images": 4, "batch": 4}
    drawn = attack("completion", base, replace(task(tmp_path), steps=4), **options)
    found = attack("completion", erased, replace(task(tmp_path, "erased"), steps=4), **options)
    gaps = [gap(named(found, f"completion{name}"), drawn) for name in ("", ", after 2 of 4 steps", ", after 3 of 4 steps")]
    assert gaps[0] > gaps[1] > gaps[2] > 0


def test_the_erased_model_drawing_as_the_base_does_completes_the_very_picture(base: Flux1, tmp_path: Path) -> None:
    drawn = attack("completion", base, task(tmp_path), images=4)
    assert gap(named(attack("completion", base, task(tmp_path, "erased"), images=4), "completion"), drawn) <= 1


def test_completion_needs_the_base_model_first_and_shares(erased: Flux1, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="attack the base model first"):
        attack("completion", erased, task(tmp_path, "erased"), images=4)
    for wrong in ({"share": 0.0}, {"share": 1.0}, {"curve": (2.0,)}, {"images": 0}):
        with pytest.raises(OptionError, match="wanted shares between 0 and 1"):
            attack("completion", erased, task(tmp_path, "erased"), **wrong)
    assert [handover(share, 28) for share in (0.01, 0.25, 0.99)] == [1, 7, 27]
