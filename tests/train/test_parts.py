"""The small parts of a training: conflicts, mining, selection, batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from training import small_task

from safeflux.models.flux1 import Flux1
from safeflux.plan.erasing import pictures
from safeflux.train.batches import draw, shares
from safeflux.train.conflict import without_conflict
from safeflux.train.held_out import GENERAL, attacked, near
from safeflux.train.mining import Mining, lost
from safeflux.train.selection import reopen
from safeflux.train.start import most
from safeflux.types import Prompt


def test_a_gradient_loses_only_what_points_against_the_other() -> None:
    retain = torch.tensor([0.0, 2.0])
    against, along = without_conflict([torch.tensor([1.0, -1.0]), torch.tensor([1.0, 1.0])], retain)
    assert against.tolist() == [1.0, 0.0]
    assert along.tolist() == [1.0, 1.0]
    assert without_conflict([along], torch.zeros(2))[0].tolist() == [1.0, 1.0]


def test_damage_is_where_mining_looks() -> None:
    mining, generator = Mining(20), torch.Generator().manual_seed(0)
    assert sorted(mining.pick(20, generator)) == list(range(20))  # different ones while there are enough
    mining.learn(range(20), torch.tensor([10.0] + [0.1] * 19), torch.zeros(20))
    drawn = [i for _ in range(200) for i in mining.pick(1, generator)]
    assert drawn.count(0) > 100
    assert len(set(drawn)) > 10
    other = Mining(20)
    other.restore(mining.state())
    assert other.pick(5, torch.Generator().manual_seed(1)) == mining.pick(5, torch.Generator().manual_seed(1))


def test_a_prompt_that_lost_its_thing_is_drawn_more_often_until_it_is_back() -> None:
    """Its picture moves no more than the others'."""
    mining = Mining(20)
    mining.learn(range(20), torch.ones(20), torch.zeros(20))

    def share() -> float:
        return sum(7 in mining.pick(1, torch.Generator().manual_seed(s)) for s in range(400)) / 400

    assert share() < 0.12
    mining.learn([7], torch.ones(1), torch.ones(1))
    assert share() > 0.3
    other = Mining(20)
    other.restore(mining.state())
    assert torch.equal(other.lost, mining.lost)
    for _ in range(6):
        mining.learn([7], torch.ones(1), torch.zeros(1))
    assert share() < 0.12


def test_lost_is_what_the_base_model_shows_and_the_other_does_not(tiny: Path) -> None:
    """Of four pictures the second and the fourth no longer show what they should; the fourth never did, and only these two are decoded of
    the base model's."""
    model, prompts = Flux1.load(tiny), [Prompt(f"a {x}", None, (x,), "general") for x in ("cat", "house", "key", "tree")]
    asked: list[tuple[str, ...]] = []

    def shows(some: Sequence[Prompt], pictures: NDArray[np.uint8]) -> NDArray[np.bool_]:
        assert len(some) == len(pictures)
        asked.append(tuple(p.expects[0] for p in some))
        return np.array([p.expects[0] in (("cat", "key"), ("house",))[len(asked) - 1] for p in some])

    latents = model.noise([1, 2, 3, 4])
    assert lost(model, shows, prompts, latents, latents).tolist() == [0, 1, 0, 0]
    assert asked == [("cat", "house", "key", "tree"), ("house", "tree")]


def test_the_unseen_come_first() -> None:
    mining = Mining(10)
    mining.learn(range(9), torch.ones(9), torch.zeros(9))
    assert sum(9 in mining.pick(2, torch.Generator().manual_seed(s)) for s in range(50)) > 25


@pytest.mark.parametrize("needed", [0, 1, 37, 63])
def test_the_smallest_mask_that_holds_is_found(needed: int) -> None:
    """The units with the highest cost of opening are the ones needed; all else is given back."""
    cost = torch.randperm(100, generator=torch.Generator().manual_seed(0)).float()
    gates = torch.ones(100)
    gates[:64] = 0
    essential = torch.zeros(100, dtype=torch.bool)
    essential[gates.eq(0).nonzero().flatten()[cost[:64].argsort(descending=True)[:needed]]] = True
    tried: list[int] = []

    def holds(some: torch.Tensor) -> bool:
        tried.append(1)
        return bool((some[essential] == 0).all())

    found = reopen(gates, cost, torch.zeros(100, dtype=torch.bool), holds, tries=10)
    assert torch.equal(found == 0, essential)
    assert len(tried) <= 7


def test_what_is_shut_is_never_reopened_and_what_never_holds_is_unchanged() -> None:
    gates, cost, shut = torch.zeros(8), torch.arange(8.0), torch.arange(8) < 3
    assert reopen(gates, cost, shut, lambda _: True)[:3].tolist() == [0, 0, 0]
    assert torch.equal(reopen(gates, cost, shut, lambda _: False), gates)


def test_most_takes_the_same_number_whatever_ties_there_are() -> None:
    assert most(torch.zeros(10), 0.3).sum() == 3
    assert most(torch.arange(10.0), 0.2).nonzero().flatten().tolist() == [8, 9]


def test_a_batch_is_half_concepts_and_a_function_of_its_update(tiny: Path) -> None:
    task = small_task(Flux1.load(tiny))
    batch = draw(task, 12, 3, Mining(len(task.retain)), {}, adversary=False)
    assert batch == draw(task, 12, 3, Mining(len(task.retain)), {}, adversary=False)
    assert batch.seeds != draw(task, 12, 4, Mining(len(task.retain)), {}, adversary=False).seeds
    assert batch.owners == [0, 0, 0, 1, 1, 1]
    assert [p.prompt.concept for p in batch.pairs] == ["sword"] * 3 + ["neon"] * 3
    assert len(batch.retain) == 6
    assert batch.retain[:3] == [0, 0, 0]  # half of them neighbours, of which there is one
    assert len(set(batch.seeds)) == 12


def test_an_adversary_has_half_of_each_concepts_pictures(tiny: Path) -> None:
    task = small_task(Flux1.load(tiny))
    batch = draw(task, 12, 3, Mining(len(task.retain)), {}, adversary=True)
    assert batch.owners == [0, 0, 1, 1]
    assert batch.attacked == [1, 1]
    assert len(batch.seeds) == len(batch.owners) + len(batch.retain) == 10
    assert draw(task, 12, 3, Mining(len(task.retain)), {}, adversary=False).attacked == [0, 0]


def test_what_weighs_more_is_drawn_more_often(tiny: Path) -> None:
    """Ten concepts' pictures, two for each whatever they weigh; ten of what must stay, one at least of neighbours."""
    task = small_task(Flux1.load(tiny))

    def counts(weights: dict[str, float]) -> tuple[int, int, int]:
        batch = draw(task, 20, 3, Mining(len(task.retain)), weights, adversary=False)
        assert len(batch.seeds) == 20
        neighbours = batch.retain[: batch.retain.count(0)]  # of which there is one, at place 0
        return batch.owners.count(0), batch.owners.count(1), len(neighbours)

    assert counts({"sword": 1.0, "neon": 9.0, GENERAL: 1e9})[:2] == (3, 7)
    assert counts({"sword": 9.0, "neon": 1.0, attacked("neon"): 9.0})[:2] == (5, 5)
    assert counts({near("sword"): 1e9})[2] >= 9
    assert counts({near("sword"): 1e9, "neon": 1e9})[:2] == (2, 8)


@pytest.mark.parametrize(("size", "drawn"), [(4, 4), (3, 3), (2, 3), (1, 3)])
def test_a_batch_is_no_larger_than_it_may_be(tiny: Path, size: int, drawn: int) -> None:
    """Memory is planned for it; but a picture of each of the two concepts and one of what must stay there always is."""
    task = small_task(Flux1.load(tiny))
    batch = draw(task, size, 3, Mining(len(task.retain)), {near("sword"): 9.0}, adversary=False)
    assert len(batch.seeds) == len(batch.pairs) + len(batch.retain) == drawn
    assert {0, 1} == set(batch.owners)


def test_shares_are_proportional_after_the_least() -> None:
    assert shares([1.0, 1.0, 1.0], 10, 2) == [4, 3, 3]
    assert shares([8.0, 1.0, 1.0], 20, 2) == [13, 4, 3]
    assert shares([1.0, 1.0], 1, 2) == [2, 2]


def test_where_no_batch_is_set_it_grows_with_many_concepts() -> None:
    assert [pictures(n) for n in (1, 3, 5, 10)] == [20, 20, 30, 60]
