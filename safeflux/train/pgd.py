"""Projected gradient descent on text embeddings, through all denoising steps: what ``attacks.embedding_pgd`` is built on.

Madry et al., ICLR 2018, arXiv 1706.06083. Steps follow the normalised gradient; balls are those of ``train.ball``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from safeflux.models.flux1 import Flux1
from safeflux.train import ball
from safeflux.train.rollout import rollout
from safeflux.types import TextCond


@dataclass(frozen=True)
class Hunt:
    """How far to look and how hard: ``radius`` of the ball, relative to the embedding; ``iterations`` steps of ``step`` radii from each
    of ``restarts`` starts. ``recompute`` trades a third forward pass for memory that does not grow with the denoising steps."""

    radius: float
    iterations: int
    step: float
    restarts: int
    recompute: bool


@dataclass(frozen=True)
class Found:
    """The best of each sample: ``latents`` [B, tokens, channels], the change ``delta`` that leads to them, and the ``loss`` [B] there."""

    latents: Tensor
    delta: TextCond
    loss: Tensor


def search(model: Flux1, noise: Tensor, cond: TextCond, target: Tensor, seeds: Sequence[int], steps: int, hunt: Hunt) -> Found:
    """Move each sample of ``cond`` in its ball to bring its final latents to ``target`` [B, tokens, channels], as near as can be.

    ``seeds``: of each sample, for what is random in the search; what is found for one does not depend on the others.
    """
    best: Found | None = None
    for restart in range(hunt.restarts):
        delta = _start(cond, seeds, restart, hunt.radius)
        for iteration in range(hunt.iterations + 1):
            found, gradient = look(model, noise, cond, delta, target, steps, hunt.recompute, follow=iteration < hunt.iterations)
            best = found if best is None else _better(best, found)
            if gradient is not None:
                delta = ball.step_towards(delta, gradient, cond, hunt.step * hunt.radius, hunt.radius)
    assert best is not None
    return best


def _start(cond: TextCond, seeds: Sequence[int], restart: int, radius: float) -> TextCond:
    if restart == 0:
        return ball.nothing(cond)
    rows = [ball.random_start(cond[[i]], radius, torch.Generator().manual_seed((s << 16) + restart)) for i, s in enumerate(seeds)]
    return TextCond.cat(rows)


def look(
    model: Flux1, noise: Tensor, cond: TextCond, delta: TextCond, target: Tensor, steps: int, recompute: bool, *, follow: bool
) -> tuple[Found, TextCond | None]:
    """What ``delta`` leads to and, to ``follow`` it, the gradient of each sample's loss."""
    leaf = TextCond(delta.sequence.detach().requires_grad_(follow), delta.pooled.detach().requires_grad_(follow))
    with torch.set_grad_enabled(follow):
        latents = rollout(model, noise, ball.moved(cond, leaf), steps=steps, recompute=recompute and follow)
        loss = (latents.float() - target.float()).square().mean((1, 2))
    gradient = TextCond(*torch.autograd.grad(loss.sum(), [leaf.sequence, leaf.pooled])) if follow else None
    return Found(latents.detach(), delta, loss.detach()), gradient


def _better(a: Found, b: Found) -> Found:
    """Of each sample the one with the smaller loss."""
    take = b.loss < a.loss

    def pick(x: Tensor, y: Tensor) -> Tensor:
        return torch.where(take.view(-1, *(1 for _ in x.shape[1:])), y, x)

    delta = TextCond(pick(a.delta.sequence, b.delta.sequence), pick(a.delta.pooled, b.delta.pooled))
    return Found(pick(a.latents, b.latents), delta, pick(a.loss, b.loss))
