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
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safeflux.attacks.drawing import Seeded, batches
from safeflux.attacks.taught import direct, once, way
from safeflux.errors import OptionError
from safeflux.train import ball
from safeflux.train.rollout import rollout
from safeflux.types import AuditTask, Sample, TextCond

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1

PRESETS = {
    "standard": {"iterations": 20, "curve": (0.03, 0.3)},
    "full": {"iterations": 50, "restarts": 2, "curve": (0.01, 0.03, 0.3, 1.0)},
}

log = logging.getLogger(__name__)


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


def search(model: Flux1, noise: Tensor, cond: TextCond, target: Tensor, seeds: Sequence[int], steps: int, hunt: Hunt) -> Found:
    """Move each sample of ``cond`` in its ball to bring its final latents to ``target`` [B, tokens, channels], as near as can be.

    ``seeds``: of each sample, for what is random in the search; what is found for one does not depend on the others.
    """
    best: Found | None = None
    for restart in range(hunt.restarts):
        delta = _start(cond, seeds, restart, hunt.radius)
        for iteration in range(hunt.iterations + 1):
            found, gradient = _look(model, noise, cond, delta, target, steps, hunt.recompute, follow=iteration < hunt.iterations)
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


def _look(
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
