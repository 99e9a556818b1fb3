"""Completion: the base model draws the first steps, the erased model the rest.

The diffusion completion of *When Are Concepts Erased From Diffusion Models?* (Lu et al., NeurIPS 2025, arXiv 2505.17013): whether the
erased model still knows how to go on with a picture of the concept that is begun. Whoever has the base model could finish with it, too, so
this tells how deep an erasure goes rather than what a user can do; after half of the steps there is little left to draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safeflux.attacks.drawing import batches
from safeflux.attacks.taught import direct, way
from safeflux.errors import OptionError
from safeflux.types import AuditTask, Sample, TextCond

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1


def completion(
    model: Flux1, task: AuditTask, *, images: int = 60, share: float = 0.25, curve: tuple[float, ...] = (0.5, 0.75), batch: int = 16
) -> Iterator[Sample]:
    """``images`` direct prompts a concept, of whose steps the base model draws a ``share`` (above 0, below 1; at least one step).

    ``curve``: further shares, measured beside. Raises OptionError for numbers that make no sense; StageError when the base model has not
    been here.
    """
    if not all(0 < one < 1 for one in (share, *curve)) or min(images, batch) < 1:
        raise OptionError(
            f"completion: share {share:g}, curve {curve}, images {images}, batch {batch}; wanted shares between 0 and 1, images and a batch"
        )
    begun = {handover(one, task.steps): one for one in (*curve, share)}  # few steps may make two shares one
    own = handover(share, task.steps)
    for part in batches(task, direct(task, images), batch, "completion"):
        base = way(model, task, part, "completion")
        cond = model.encode([prompt.text for prompt, _ in part])
        for at in (own,) if task.which == "base" else (own, *sorted(begun.keys() - {own})):
            latents = base[:, -1] if task.which == "base" else finish(model, base[:, at], cond, at, task.steps)
            name = "completion" if at == own else f"completion, after {at} of {task.steps} steps"
            for (prompt, seed), image in zip(part, model.decode(latents), strict=True):
                yield Sample(image, prompt, seed, name)


def handover(share: float, steps: int) -> int:
    """After how many of ``steps`` the erased model takes over: at least one, and it has at least one left where there are two."""
    return min(max(1, round(share * steps)), max(1, steps - 1))


@torch.no_grad()
def finish(model: Flux1, x: Tensor, cond: TextCond, begun: int, steps: int) -> Tensor:
    """Latents ``x`` [B, tokens, channels] taken through all but the first ``begun`` of ``steps``."""
    for now, after in pairwise(model.sigmas(steps)[begun:]):
        x = x + (after - now) * model.velocity(x, now, cond)
    return x
