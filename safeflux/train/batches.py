"""What one update of a mask is trained on: prompts, what shall be drawn in their place, fresh noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from safeflux.train.mining import Mining
from safeflux.train.task import Pair, TrainingTask


@dataclass(frozen=True)
class Batch:
    """``pairs`` of the concepts, ``owners[i]`` the place of the i-th one's concept; ``retain``: places in the task's retained
    prompts; ``seeds``: noise of the pairs first, then of the retained prompts."""

    pairs: list[Pair]
    owners: list[int]
    retain: list[int]
    seeds: list[int]

    def of(self, owner: int) -> slice:
        """Where the pairs of one concept lie."""
        at = [i for i, o in enumerate(self.owners) if o == owner]
        return slice(at[0], at[-1] + 1)


def draw(task: TrainingTask, size: int, update: int, mining: Mining) -> Batch:
    """Half concepts, evenly; half retained prompts: of these half neighbours, where there are any, the rest mined.

    A function of the task's seed, the update's number and what ``mining`` has learnt.
    """
    random = torch.Generator().manual_seed(task.seed * 100_003 + update)
    share = max(1, size // 2 // len(task.concepts))
    pairs: list[Pair] = []
    owners: list[int] = []
    for owner, concept in enumerate(task.concepts):
        among = task.pairs[concept.name]
        pairs += [among[i] for i in _pick(share, len(among), random)]
        owners += [owner] * share
    wanted = max(1, size - len(pairs))
    near = [i for i, prompt in enumerate(task.retain) if prompt.kind == "neighbour"]
    first = [near[i] for i in _pick(wanted // 2 if near else 0, len(near), random)]
    retain = first + mining.pick(wanted - len(first), random)
    seeds = torch.randint(0, 2**31, (len(pairs) + len(retain),), generator=random).tolist()
    return Batch(pairs, owners, retain, seeds)


def _pick(n: int, among: int, random: torch.Generator) -> Iterator[int]:
    while n > 0:
        order = torch.randperm(among, generator=random)[:n].tolist()
        yield from order
        n -= len(order)
