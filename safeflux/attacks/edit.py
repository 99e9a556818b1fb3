"""Edits: a harmless picture is turned into the concept, as a user with a picture of his own would.

Erasures are made against generation, and editing starts half-way (ACE, Wang et al., CVPR 2025, arXiv 2501.01633). Two ways:

- img2img (SDEdit, Meng et al., ICLR 2022, arXiv 2108.01073): the picture is noised to a level, and drawn on from there for the prompt.
- FlowEdit (Kulikov et al., ICCV 2025, arXiv 2412.08629): the picture is moved by the difference of two velocities, for the prompt and for
  what the picture shows, each seen through the same noise; nothing is inverted.

The pictures are the base model's, of the same sentences with another thing in the concept's place. The base model edits them too: an edit
counts where the base model's shows the concept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safeflux import prompts
from safeflux.attacks.drawing import Seeded, batches, seed_of
from safeflux.attacks.inversion import split
from safeflux.attacks.taught import direct, way
from safeflux.errors import OptionError
from safeflux.policy import Concept
from safeflux.types import AuditTask, Prompt, Sample, TextCond

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1

PRESETS = {"quick": {"images": 40, "curve": (), "flowedit": (0.75,)}}


def edit(
    model: Flux1,
    task: AuditTask,
    *,
    images: int = 60,
    strength: float = 0.75,
    curve: tuple[float, ...] = (0.5,),
    flowedit: tuple[float, ...] = (0.75, 1.0),
    batch: int = 16,
) -> Iterator[Sample]:
    """``images`` pictures a concept, edited by img2img with ``strength`` (share of the steps that are drawn again, up to 1).

    ``curve``: other strengths of img2img, ``flowedit``: strengths of FlowEdit, both measured beside. Raises OptionError for numbers that
    make no sense, StageError when the base model has not been here.
    """
    if not all(0 < one <= 1 for one in (strength, *curve, *flowedit)) or min(images, batch) < 1:
        raise OptionError(
            f"edit: strength {strength:g}, curve {curve}, flowedit {flowedit}, images {images}, batch {batch}; wanted strengths above "
            "0 and up to 1, images and a batch"
        )
    points = {"edit": (image_to_image, strength)}
    points |= {f"edit, img2img {one:g}": (image_to_image, one) for one in curve if one != strength}
    points |= {f"edit, FlowEdit {one:g}": (flow_edit, one) for one in flowedit}
    concepts = {c.name: c for c in task.concepts}
    for part in batches(task, direct(task, images), batch, "edit"):
        safe = [_harmless(prompt, seed, concepts[str(prompt.concept)], task) for prompt, seed in part]
        x0, seeds = way(model, task, safe, "edit")[:, -1], [seed for _, seed in part]
        source, target = (model.encode([prompt.text for prompt, _ in some]) for some in (safe, part))
        for name, (change, much) in points.items():
            latents = change(model, x0, source, target, seeds, task.steps, much)
            yield from (Sample(image, *pair, name) for pair, image in zip(part, model.decode(latents), strict=True))


def _harmless(prompt: Prompt, seed: int, concept: Concept, task: AuditTask) -> Seeded:
    """The same sentence about something else, with noise of its own."""
    before, after = split(prompt.text, concept)
    if concept.category == "style":
        other = "picture"
    else:
        nouns = concept.retain if concept.category in ("character", "identity") and concept.retain else task.retain or prompts.NOUNS
        other = nouns[seed % len(nouns)]
    text = f"{before} {other} {after}".strip()
    return Prompt(text, None, (other,), "general"), seed_of(f"{seed}/safe")


@torch.no_grad()
def image_to_image(
    model: Flux1, x0: Tensor, source: TextCond, target: TextCond, seeds: Sequence[int], steps: int, strength: float
) -> Tensor:
    """``x0`` [B, tokens, channels] noised by the ``seeds`` and drawn on for ``target``; with strength 1 nothing of it is left."""
    sigmas = model.sigmas(steps)[-1 - _count(steps, strength) :]
    x = (1 - sigmas[0]) * x0 + sigmas[0] * model.noise(seeds)
    for now, after in pairwise(sigmas):
        x = x + (after - now) * model.velocity(x, now, target)
    return x


@torch.no_grad()
def flow_edit(model: Flux1, x0: Tensor, source: TextCond, target: TextCond, seeds: Sequence[int], steps: int, strength: float) -> Tensor:
    """``x0`` [B, tokens, channels] moved by v(target) - v(source) through the last ``strength`` of the steps, with new noise in each."""
    x = x0
    for step, (now, after) in enumerate(pairwise(model.sigmas(steps)[-1 - _count(steps, strength) :])):
        shown = (1 - now) * x0 + now * model.noise([seed_of(f"{seed}/{step}") for seed in seeds])
        x = x + (after - now) * (model.velocity(x + shown - x0, now, target) - model.velocity(shown, now, source))
    return x


def _count(steps: int, strength: float) -> int:
    return max(1, round(steps * strength))
