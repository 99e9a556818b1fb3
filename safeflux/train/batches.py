"""What one update of a mask is trained on: prompts, what shall be drawn in their place, fresh noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from safeflux.plan.erasing import ATTACKED, FEWEST
from safeflux.train.held_out import GENERAL, attacked, groups
from safeflux.train.mining import Mining
from safeflux.train.task import Pair, TrainingTask


@dataclass(frozen=True)
class Batch:
    """``pairs`` of the concepts, ``owners[i]`` the place of the i-th one's concept; ``retain``: places in the task's retained
    prompts; ``seeds``: noise of the pairs first, then of the retained prompts; ``attacked``: pictures of each concept to be attacked."""

    pairs: list[Pair]
    owners: list[int]
    retain: list[int]
    seeds: list[int]
    attacked: list[int]


def draw(task: TrainingTask, size: int, update: int, mining: Mining, weights: Mapping[str, float], *, adversary: bool) -> Batch:
    """Half concepts, half of them for the ``adversary`` if there is one; half retained prompts: neighbours of each concept, and any.

    Whatever weighs more is drawn more often, by the ``weights`` of limits: its gradient counts for more, so its noise does. A function
    of the task's seed, the update's number, the weights and what ``mining`` has learnt.
    """
    random = torch.Generator().manual_seed(task.seed * 100_003 + update)
    names = [c.name for c in task.concepts]
    heavy = [max(weights.get(name, 1.0), weights.get(attacked(name), 0.0)) for name in names]
    pairs: list[Pair] = []
    owners: list[int] = []
    least = max(1, min(FEWEST, size // 2 // len(names)))
    planned = shares(heavy, size // 2, least)
    against = [2 * share // ATTACKED if adversary else 0 for share in planned]
    for owner, share in enumerate(planned):
        among = task.pairs[names[owner]]
        pairs += [among[i] for i in _pick(share - against[owner], len(among), random)]
        owners += [owner] * (share - against[owner])
    retain = _retained(task, max(1, size - sum(planned)), mining, weights, random)
    seeds = torch.randint(0, 2**31, (len(pairs) + len(retain),), generator=random).tolist()
    return Batch(pairs, owners, retain, seeds, against)


def _retained(task: TrainingTask, wanted: int, mining: Mining, weights: Mapping[str, float], random: torch.Generator) -> list[int]:
    """Places of what was mined among each concept's neighbours and among all that must stay: of each one, if there is room."""
    found = groups(task, task.retain)
    near = [name for name in found if name != GENERAL]
    heavy = [weights.get(name, 1.0) for name in (*near, GENERAL)]
    *counts, mined = shares(heavy, wanted, min(1, wanted // len(heavy)))
    first = [i for name, n in zip(near, counts, strict=True) for i in mining.pick(n, random, found[name])]
    return first + mining.pick(mined, random)


def shares(weights: Sequence[float], total: int, least: int) -> list[int]:
    """``total`` cut up in proportion to ``weights``, after ``least`` for each, even where that alone is more than ``total``."""
    free = max(0, total - least * len(weights))
    exact = [free * weight / sum(weights) for weight in weights]
    found = [math.floor(one) for one in exact]
    for i in sorted(range(len(exact)), key=lambda i: found[i] - exact[i])[: free - sum(found)]:
        found[i] += 1
    return [least + one for one in found]


def _pick(n: int, among: int, random: torch.Generator) -> Iterator[int]:
    while n > 0:
        order = torch.randperm(among, generator=random)[:n].tolist()
        yield from order
        n -= len(order)
