"""Balls around text embeddings: how far an adversary with the weights may move them.

Of each sample, the change of the T5 sequence has a Frobenius norm of at most ``radius`` times that of the sequence itself, the
change of the pooled CLIP vector at most ``radius`` times that of the vector. So a radius means the same for every prompt, encoder
and number of tokens. Changes are float32 whatever the model is in: a small step would be lost in bfloat16. Pure functions; a
change is a ``TextCond`` of the shape of the embeddings it is a change of.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from safeflux.types import TextCond

_TINY = torch.finfo(torch.float32).tiny


def project(delta: TextCond, around: TextCond, radius: float) -> TextCond:
    """The change nearest to ``delta`` that stays in the ball; what lies in it comes back as it is."""

    def part(change: Tensor, centre: Tensor) -> Tensor:
        return change * (radius * _norm(centre) / _norm(change).clamp_min(_TINY)).clamp(max=1)

    return _each(part, delta, around)


def step_towards(delta: TextCond, gradient: TextCond, around: TextCond, length: float, radius: float) -> TextCond:
    """``delta`` after one step down ``gradient``, ``length`` long in the unit of ``radius``, and back into the ball.

    Normalised by sample and part, so that neither a steep prompt nor a steep encoder takes the others' way. No gradient, no step.
    """

    def part(change: Tensor, slope: Tensor, centre: Tensor) -> Tensor:
        slope = slope.float()
        largest = slope.abs().flatten(1).amax(dim=1).clamp_min(_TINY).view(_column(slope))
        slope = slope / largest  # else the squares of a very small gradient vanish
        return change - length * _norm(centre) * slope / _norm(slope).clamp_min(_TINY)

    return project(_each(part, delta, gradient, around), around, radius)


def nothing(around: TextCond) -> TextCond:
    """No change."""
    return _each(lambda centre: torch.zeros_like(centre, dtype=torch.float32), around)


def random_start(around: TextCond, radius: float, generator: torch.Generator) -> TextCond:
    """A change drawn evenly from the ball. With so many dimensions that is one of almost the full length."""

    def part(centre: Tensor) -> Tensor:
        drawn = torch.randn(centre.shape, generator=generator, device=generator.device)
        share = torch.rand(_column(centre), generator=generator, device=generator.device) ** (1 / centre[0].numel())
        return (drawn * share / _norm(drawn)).to(centre.device) * radius * _norm(centre)

    return _each(part, around)


def moved(around: TextCond, delta: TextCond) -> TextCond:
    """The embeddings ``around`` changed by ``delta``, in the number format of ``around``."""
    return _each(lambda centre, change: (centre.float() + change).to(centre.dtype), around, delta)


def lengths(delta: TextCond, around: TextCond) -> tuple[Tensor, Tensor]:
    """How far each sample of ``delta`` reaches, in the unit of a radius: of the sequence [B], of the pooled vector [B]."""
    found = _each(lambda change, centre: (_norm(change) / _norm(centre).clamp_min(_TINY)).flatten(), delta, around)
    return found.sequence, found.pooled


def _norm(x: Tensor) -> Tensor:
    """Norm of each sample [B, 1, ...], float32."""
    norm: Tensor = torch.linalg.vector_norm(x.float().flatten(1), dim=1)
    return norm.view(_column(x))


def _column(x: Tensor) -> tuple[int, ...]:
    return (len(x), *(1 for _ in x.shape[1:]))


def _each(part: Callable[..., Tensor], *conds: TextCond) -> TextCond:
    return TextCond(part(*(c.sequence for c in conds)), part(*(c.pooled for c in conds)))
