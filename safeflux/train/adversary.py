"""Prompts nobody listed: while the mask learns, an adversary moves the concept prompts' embeddings against it.

Adversarial training "for free" (Shafahi et al., NeurIPS 2019, arXiv 1904.12843): the backward pass that gives the gates their
gradient gives the embeddings theirs too, so the inner maximisation costs no evaluation of the model. Each prompt keeps what was
found against it, inside its ball, and goes on from there the next time it is drawn. How often that brings the concept back is a
rate of its own, and is held to the limit of attacks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from safeflux.train import ball
from safeflux.types import TextCond

_STEP = 0.5  # of the radius
_MEMORY = 0.9  # part of a success rate that an update leaves as it was


def attacked(concept: str) -> str:
    """The name of the line of a concept's prompts under attack."""
    return f"{concept} under attack"


class Adversary:
    """A bank of perturbations by prompt text, each at most ``radius`` of the embedding's own norm (see ``ball``).

    Every second prompt of a batch is left alone: a mask must hold against what people type, too. ``success``: by concept, in what share
    of the latest attacked pictures the concept was seen.
    """

    def __init__(self, radius: float, seed: int) -> None:
        self.radius, self._seed = radius, seed
        self.success: dict[str, float] = {}
        self._bank: dict[str, TextCond] = {}

    def against(self, texts: Sequence[str], cond: TextCond) -> TextCond:
        """The perturbation of each row of ``cond``, ready to have a gradient: what was found before, else a random point of the ball."""
        delta = TextCond.cat([self._row(i, text, cond[[i]]) for i, text in enumerate(texts)])
        return TextCond(delta.sequence.requires_grad_(), delta.pooled.requires_grad_())

    def attacks(self, row: int) -> bool:
        """Whether the prompt in this row of a batch is attacked."""
        return row % 2 == 0 and self.radius > 0

    def count(self, concept: str, seen: Sequence[bool]) -> None:
        """Take note of attacked pictures that show the ``concept``, or do not; before there are any, all did."""
        if len(seen):
            self.success[concept] = _MEMORY * self.success.get(concept, 1.0) + (1 - _MEMORY) * sum(seen) / len(seen)

    def learn(self, texts: Sequence[str], cond: TextCond, delta: TextCond, gradient: TextCond) -> None:
        """Move each perturbation up the ``gradient`` of the erase loss."""
        down = TextCond(-gradient.sequence, -gradient.pooled)
        moved = ball.step_towards(TextCond(delta.sequence.detach(), delta.pooled.detach()), down, cond, _STEP * self.radius, self.radius)
        for i, text in enumerate(texts):
            if self.attacks(i):
                self._bank[text] = moved[[i]]

    def _row(self, i: int, text: str, around: TextCond) -> TextCond:
        if not self.attacks(i):
            return TextCond(torch.zeros_like(around.sequence, dtype=torch.float32), torch.zeros_like(around.pooled, dtype=torch.float32))
        if text in self._bank:
            return self._bank[text]
        generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(f"{self._seed}/{text}".encode()).digest()[:4]))
        return ball.random_start(around, self.radius, generator)

    def state(self) -> dict[str, Tensor]:
        return {f"{part}.{text}": getattr(row, part) for text, row in self._bank.items() for part in ("sequence", "pooled")}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        texts = {name.split(".", 1)[1] for name in state}
        self._bank = {text: TextCond(state[f"sequence.{text}"], state[f"pooled.{text}"]) for text in texts}
