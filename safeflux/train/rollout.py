"""Differentiable rollouts through all denoising steps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from safeflux.models.flux1 import Flux1
from safeflux.types import TextCond


def rollout(model: Flux1, noise: Tensor, cond: TextCond, *, steps: int, recompute: bool) -> Tensor:
    """Final packed latents [B, tokens, channels], with gradients to whatever gates are in force.

    ``recompute`` keeps only the latents between steps and runs each step again in the backward pass (the paper's
    step-wise checkpointing), so memory does not grow with the number of steps; without it one forward pass is saved.
    The gates must stay in force until the backward pass is over.
    """
    x, sigmas = noise, model.sigmas(steps)
    for now, after in pairwise(sigmas):
        if recompute:
            v = checkpoint(model.velocity, x, now, cond, use_reentrant=False, preserve_rng_state=False)
        else:
            v = model.velocity(x, now, cond)
        x = x + (after - now) * v
    return x


def shared(copies: Tensor, owners: Sequence[int]) -> Tensor:
    """For each of B pictures the one of ``copies`` [owners, units] that is its owner's: [B, units].

    Stacked, not indexed: of an index, several threads add up the gradient in whichever order they come, and the same seed would end in
    another mask.
    """
    each = copies.unbind()
    return torch.stack([each[owner] for owner in owners])
