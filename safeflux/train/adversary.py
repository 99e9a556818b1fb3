"""Prompts nobody listed: while the mask learns, an adversary moves the concept prompts' embeddings against it.

Each attack is the one that the audit makes (``attacks.embedding_pgd``): on one prompt with noise of its own, steps of projected
gradient descent towards what the base model draws there. In every update those under way take a step against the binary mask as it is
by then. Once an attack has all its steps it is told whether the concept came back; only then does the mask learn from it, and from a
bank of the latest ones over and over (adversarial training, Madry et al., ICLR 2018, arXiv 1706.06083, with the inner steps spread
over the updates as in Shafahi et al., NeurIPS 2019, arXiv 1904.12843). So the success rate, which is held to the limit of attacks, is
that of attacks on a mask that has not seen them: a mask that learns from an attack on its way parries that one and no other. Gates
with noise would not do either: what has to hold against every draw of them is far weaker than an attack on the mask itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from safeflux.models.flux1 import Flux1
from safeflux.models.sites import Site, gated
from safeflux.plan.erasing import LENGTH, STEPS, UNDERWAY
from safeflux.train import ball
from safeflux.train.pgd import look
from safeflux.train.task import Pair, TrainingTask
from safeflux.types import TextCond

_BANK = 60  # of each concept: the latest attacks, to learn from
_MEMORY = 0.9  # part of a success rate that one attack leaves as it was


@dataclass
class Attack:
    """On the ``pair``-th pair of the ``owner``-th concept, with noise of ``seed``; ``steps`` of them have led to the change ``delta``.

    ``anchor`` and ``concept`` [1, tokens, channels]: the base model's final latents from the same noise, for the pair's anchor and for
    its prompt. ``delta`` has one row.
    """

    owner: int
    pair: int
    seed: int
    delta: TextCond
    anchor: Tensor
    concept: Tensor
    steps: int = 0


class Adversary:
    """Attacks under way, none farther than ``radius`` of the embedding's own norm (see ``ball``); a radius of 0 is no adversary.

    ``success``: by concept, in what share of the latest attacked pictures the concept was seen; before there are any, in all.
    """

    def __init__(self, radius: float, model: Flux1, task: TrainingTask, sites: Mapping[str, Site], *, recompute: bool = False) -> None:
        self.radius = radius
        self.success: dict[str, float] = {}
        self._parts = model, task, sites, recompute
        self._calls = 0
        self._underway: list[Attack] = []
        self._bank: list[Attack] = []

    def step(self, mask: Mapping[str, Tensor], wanted: Sequence[int]) -> list[Attack]:
        """Attacks under way take a step against the binary ``mask`` by site; at most ``wanted[i]`` on the i-th concept to learn from.

        What is missing is begun. A pair whose anchor shows the concept is passed over, and then there is one fewer.
        """
        if not self.radius:
            return []
        random = torch.Generator().manual_seed(self._parts[1].seed * 100_021 + self._calls)
        self._calls += 1
        missing = [owner for owner, n in enumerate(wanted) for _ in range(UNDERWAY * n - len(_on(self._underway, owner)))]
        if missing:
            self._begin(missing, random)
        if attacks := [attack for owner, n in enumerate(wanted) for attack in _on(self._underway, owner)[: UNDERWAY * n]]:
            self._descend(mask, attacks)
        return [attack for owner, n in enumerate(wanted) for attack in _some(_on(self._bank, owner), n, random)]

    def prompts(self, attacks: Sequence[Attack]) -> TextCond:
        """The embeddings under attack, a row each."""
        return ball.moved(self._around(attacks), _deltas(attacks))

    def _around(self, attacks: Sequence[Attack]) -> TextCond:
        task = self._parts[1]
        return task.embed([self._pair(attack.owner, attack.pair).prompt.text for attack in attacks])

    def _pair(self, owner: int, place: int) -> Pair:
        task = self._parts[1]
        return task.pairs[task.concepts[owner].name][place]

    def _begin(self, owners: Sequence[int], random: torch.Generator) -> None:
        model, task, *_ = self._parts
        places = [_draw(len(task.pairs[task.concepts[owner].name]), random) for owner in owners]
        pairs = [self._pair(owner, place) for owner, place in zip(owners, places, strict=True)]
        seeds = [_draw(2**31, random) for _ in owners]
        texts = [pair.anchor for pair in pairs] + [pair.prompt.text for pair in pairs]
        anchors, concepts = model.sample(model.noise(seeds * 2), task.embed(texts), steps=task.steps).chunk(2)
        assert task.shows is not None
        shown = task.shows([pair.prompt for pair in pairs], model.decode(anchors))
        for i, (owner, place, seed) in enumerate(zip(owners, places, seeds, strict=True)):
            if not shown[i]:
                delta = self._start(owner, task.embed([pairs[i].prompt.text]), random)
                self._underway.append(Attack(owner, place, seed, delta, anchors[[i]], concepts[[i]]))

    def _start(self, owner: int, around: TextCond, random: torch.Generator) -> TextCond:
        """Where an attack begins: at the prompt itself, or every other time where the latest one on its concept ended."""
        known = _on(self._bank, owner)
        if known and _draw(2, random):
            return ball.project(known[-1].delta, around, self.radius)
        return ball.nothing(around)

    def _descend(self, mask: Mapping[str, Tensor], attacks: Sequence[Attack]) -> None:
        model, task, sites, recompute = self._parts
        around, delta = self._around(attacks), _deltas(attacks)
        noise, target = model.noise([a.seed for a in attacks]), torch.cat([attack.concept for attack in attacks])
        with gated(model.transformer, sites, mask):
            found, gradient = look(model, noise, around, delta, target, task.steps, recompute, follow=True)
        assert gradient is not None  # it was to follow
        self._count(attacks, found.latents)
        moved = ball.step_towards(delta, gradient, around, LENGTH * self.radius, self.radius)
        for i, attack in enumerate(attacks):
            attack.delta, attack.steps = moved[[i]], attack.steps + 1
        self._bank += [attack for attack in attacks if attack.steps == STEPS]
        self._bank = [attack for owner in range(len(task.concepts)) for attack in _on(self._bank, owner)[-_BANK:]]
        self._underway = [attack for attack in self._underway if attack.steps < STEPS]

    def _count(self, attacks: Sequence[Attack], final: Tensor) -> None:
        """Take note of which attacks, before their last step, have brought their concepts back in ``final`` [B, tokens, channels]."""
        model, task, *_ = self._parts
        ripe = [i for i, attack in enumerate(attacks) if attack.steps == STEPS - 1]
        if not ripe:
            return
        assert task.shows is not None
        prompts = [self._pair(attacks[i].owner, attacks[i].pair).prompt for i in ripe]
        for i, hit in zip(ripe, task.shows(prompts, model.decode(final[ripe])), strict=True):
            self.hear(task.concepts[attacks[i].owner].name, float(hit), 1)

    def hear(self, concept: str, rate: float, attacks: int) -> None:
        """Of so many ``attacks`` on ``concept``, that ``rate`` brought it back: by them ``success`` moves."""
        old = _MEMORY**attacks
        self.success[concept] = old * self.success.get(concept, 1.0) + (1 - old) * rate

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that changes: tensors, and what JSON can hold."""
        every = {"underway": self._underway, "bank": self._bank}
        tensors = {
            f"{where}.{i}.{name}": t for where, some in every.items() for i, one in enumerate(some) for name, t in _tensors(one).items()
        }
        numbers = {where: [[one.owner, one.pair, one.seed, one.steps] for one in some] for where, some in every.items()}
        return tensors, {"success": self.success, "calls": self._calls, **numbers}

    def restore(self, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> None:
        """Go on where an earlier run was."""

        def read(where: str) -> list[Attack]:
            found = []
            for i, (owner, pair, seed, steps) in enumerate(rest[where]):
                sequence, pooled, anchor, concept = (tensors[f"{where}.{i}.{name}"] for name in ("sequence", "pooled", "anchor", "concept"))
                found.append(Attack(owner, pair, seed, TextCond(sequence, pooled), anchor, concept, steps))
            return found

        self.success, self._calls = dict(rest["success"]), rest["calls"]
        self._underway, self._bank = read("underway"), read("bank")


def _tensors(attack: Attack) -> dict[str, Tensor]:
    return {"sequence": attack.delta.sequence, "pooled": attack.delta.pooled, "anchor": attack.anchor, "concept": attack.concept}


def _deltas(attacks: Sequence[Attack]) -> TextCond:
    return TextCond.cat([attack.delta for attack in attacks])


def _on(attacks: Sequence[Attack], owner: int) -> list[Attack]:
    return [attack for attack in attacks if attack.owner == owner]


def _some(attacks: Sequence[Attack], n: int, random: torch.Generator) -> list[Attack]:
    """``n`` of them, or all where there are fewer."""
    return [attacks[i] for i in torch.randperm(len(attacks), generator=random)[:n].tolist()]


def _draw(n: int, random: torch.Generator) -> int:
    return int(torch.randint(0, n, (1,), generator=random))
