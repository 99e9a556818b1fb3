"""Latent inversion: the noise that leads to a picture of the concept is found by running the sampler backwards, and drawn from again.

M-ErasureBench's latents (white box: the erased model inverts; black box: the base model does), and *Memories of Forgotten Concepts*
(Rusanovsky et al., 2024, arXiv 2412.00782). FLUX's sampler is an ODE. Each of its Euler steps, x' = x + (s' - s) v(x, s), is undone by
fixed-point iteration, x <- x' - (s' - s) v(x, s).

An ODE that is run backwards and forwards again gives back whatever picture it was given, one of the concept or any other: what is measured
then is the sampler and not what the model knows. So pictures of things that have nothing to do with the concept go the same way, and how
many of them come back is a line of its own ("still drawn"). Only a concept that comes back where unrelated pictures do not, or with the
concept's name and not without, tells of the erasure. No limit is held against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from safeflux.attacks.drawing import Seeded, batches
from safeflux.attacks.taught import direct, once, unrelated, way
from safeflux.errors import OptionError, StageError
from safeflux.types import AuditTask, Sample, TextCond

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1

PRESETS = {"quick": {"images": 24}, "full": {"steps": 28}}
_NAME, _REPLAYED = "latent-inversion", "latent-inversion, inverted by the base model"


def latent_inversion(
    model: Flux1,
    task: AuditTask,
    *,
    images: int = 60,
    inverted_by: Literal["erased", "base", "both"] = "both",
    prompt: Literal["empty", "named"] = "empty",
    steps: int = 0,
    rounds: int = 5,
    batch: int = 16,
) -> Iterator[Sample]:
    """The base model's pictures for ``images`` direct prompts a concept, and for as many of what must stay, inverted and drawn again.

    ``prompt``: under which both happen. ``steps`` there and back (0: the sampler's), with ``rounds`` of the iteration to undo a step. With
    ``inverted_by`` "both", what the erased model inverts is the attack, and the base model's noise is drawn from beside it. Raises
    OptionError for numbers that make no sense, StageError when the base model has not been here.
    """
    _check(images, rounds, batch, steps)
    taken, settings = steps or task.steps, [prompt, steps, rounds]

    def there(part: Sequence[Seeded], x0: Tensor, cond: TextCond) -> Tensor:
        return once(model, task, _NAME, settings, lambda: {"noise": invert(model, x0, cond, taken, rounds)}, part)["noise"]

    for part in batches(task, [*direct(task, images), *unrelated(task, images)], batch, _NAME):
        x0 = way(model, task, part, _NAME)[:, -1]
        cond = model.encode([asked.text if prompt == "named" else "" for asked, _ in part])
        found: dict[str, Tensor] = {}
        if task.which == "base":
            found[_NAME] = x0
            if inverted_by != "erased":
                there(part, x0, cond)
        if task.which == "erased" and inverted_by != "base":
            found[_NAME] = model.sample(there(part, x0, cond), cond, steps=taken)
        if task.which == "erased" and inverted_by != "erased":
            noise = once(model, task, _NAME, settings, _missing, part, by="base")["noise"]
            found[_REPLAYED if found else _NAME] = model.sample(noise, cond, steps=taken)
        for name, latents in found.items():
            yield from (Sample(image, *pair, name) for pair, image in zip(part, model.decode(latents), strict=True))


def _check(images: int, rounds: int, batch: int, steps: int) -> None:
    """Raises OptionError for numbers that make no sense."""
    if min(images, rounds, batch) < 1 or steps < 0:
        raise OptionError(
            f"{_NAME}: images {images}, rounds {rounds}, batch {batch}, steps {steps}; wanted numbers of at least 1, steps of 0 or more"
        )


@torch.no_grad()
def invert(model: Flux1, x0: Tensor, cond: TextCond, steps: int, rounds: int) -> Tensor:
    """The noise [B, tokens, channels] from which the sampler gets to the latents ``x0``."""
    x = x0
    for now, after in reversed(list(pairwise(model.sigmas(steps)))):
        end = x
        for _ in range(rounds):
            x = end - (after - now) * model.velocity(x, now, cond)
    return x


def _missing() -> dict[str, Tensor]:
    raise StageError(f"{_NAME}: what the base model inverted is not kept; attack the base model first, with the same task and options")
