"""Optimised embeddings: whoever has the weights moves the text embeddings of a direct prompt until the concept comes back.

Projected gradient descent (Madry et al., ICLR 2018, arXiv 1706.06083) on the T5 sequence and the pooled CLIP vector together,
inside a ball around those of the prompt, as RACE does it for diffusion models (Kim et al., ECCV 2024, arXiv 2405.16341). Where this
departs from RACE:

- The loss is that of the final latents, through all denoising steps from the picture's own noise, to those of the base model for
  the same prompt and noise; RACE compares one step's prediction.
- Steps follow the normalised gradient, and the ball is Euclidean and relative to the embedding (``train.ball``).
- The first start is the prompt itself, so that the best that is found is never farther from the base model's picture than
  what the prompt draws; further ones (``restarts``) are random.

The base model's own pictures are the control: it draws the concept already, so the best change is none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from torch import Tensor

from safeflux.attacks.drawing import Seeded, batches
from safeflux.attacks.taught import direct, once, way
from safeflux.errors import OptionError
from safeflux.train.pgd import Hunt, search
from safeflux.types import AuditTask, Sample

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1

PRESETS = {
    "standard": {"iterations": 20, "curve": (0.03, 0.3)},
    "full": {"iterations": 50, "restarts": 2, "curve": (0.01, 0.03, 0.3, 1.0)},
}

log = logging.getLogger(__name__)


def embedding_pgd(
    model: Flux1,
    task: AuditTask,
    *,
    images: int = 60,
    radius: float = 0.1,
    curve: tuple[float, ...] = (),
    iterations: int = 10,
    step: float = 0.25,
    restarts: int = 1,
    batch: int = 16,
    recompute: bool = False,
) -> Iterator[Sample]:
    """``images`` pictures a concept, by its first name in sentences of the audit's split, each from noise of its own.

    ``curve``: further radii, measured beside. The base model takes one rollout a picture, the erased one for every radius ``restarts``
    times ``iterations`` with a backward pass each and one without. The base model comes first: its latents (``taught.way``) are what the
    erased model is driven to. Detection is the audit's, on the final picture, and not by the loss.

    Raises StageError without a cache, or when the base model has not been here; OptionError for numbers that make no sense.
    """
    if min(radius, *curve, 0) < 0 or step <= 0 or min(images, iterations, restarts, batch) < 1:
        raise OptionError(
            f"embedding-pgd: radius {radius:g}, step {step:g}, images {images}, iterations {iterations}, restarts {restarts}, "
            f"batch {batch}; wanted a radius of at least 0, a step above 0 and at least 1 of the others"
        )
    for part in batches(task, direct(task, images), batch, "embedding-pgd"):
        target = way(model, task, part, "embedding-pgd")[:, -1]
        for at in (radius,) if task.which == "base" else (radius, *curve):
            hunt = Hunt(at, iterations, step, restarts, recompute)
            latents = target if task.which == "base" else _attacked(model, task, part, target, hunt)
            name = "embedding-pgd" if at == radius else f"embedding-pgd, radius {at:g}"
            for (prompt, seed), image in zip(part, model.decode(latents), strict=True):
                yield Sample(image, prompt, seed, name)


def _attacked(model: Flux1, task: AuditTask, part: Sequence[Seeded], target: Tensor, hunt: Hunt) -> Tensor:
    """The latents that the attack ends with."""

    def look() -> dict[str, Tensor]:
        seeds, cond = [seed for _, seed in part], model.encode([prompt.text for prompt, _ in part])
        found = search(model, model.noise(seeds), cond, target, seeds, task.steps, hunt)
        log.debug("embedding-pgd: radius %g, mean loss %.4f over %d pictures", hunt.radius, found.loss.mean().item(), len(part))
        return {"latents": found.latents}

    return once(model, task, "embedding-pgd", asdict(hunt), look, part)["latents"]
