"""What all prompt attacks share: a noise seed of its own for every prompt, and drawing in batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from safeflux.types import AuditTask, Prompt, Sample

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1

Seeded = tuple[Prompt, int]  # a prompt and the seed of the noise it is drawn from


def seeded(prompts: Sequence[Prompt], task: AuditTask, group: str) -> list[Seeded]:
    """Each prompt with a noise seed (0 .. 2^31) that depends on the task's seed, ``group`` and the place in the list alone.

    So base and erased model draw a prompt from the same noise, and no two groups share any.
    """
    return [(prompt, seed_of(f"{task.seed}/{group}/{i}")) for i, prompt in enumerate(prompts)]


def draw(model: Flux1, task: AuditTask, pairs: Sequence[Seeded], attack: str) -> Iterator[Sample]:
    """Draw ``pairs`` in their order, ``task.batch`` at a time; reports progress under the attack's name.

    A batch that an interrupted run drew whole is not drawn again (only whole ones: a picture can depend in its last bits on those
    drawn with it). Prompts of which there are enough pictures are left out.
    """
    for start in range(0, len(pairs), task.batch):
        part = [pair for pair in pairs[start : start + task.batch] if task.enough is None or not task.enough(pair[0])]
        kept = [task.kept[p.text, s] for p, s in part if (p.text, s) in task.kept]
        yield from kept if len(kept) == len(part) else _drawn(model, task, part, attack)
        if task.progress:
            task.progress(attack, min(start + task.batch, len(pairs)), len(pairs))


def _drawn(model: Flux1, task: AuditTask, part: Sequence[Seeded], attack: str) -> Iterator[Sample]:
    """``part`` drawn now. The latents of general prompts are kept: what both models make of these is compared before it is decoded, too."""
    texts, seeds = [prompt.text for prompt, _ in part], [seed for _, seed in part]
    images, latents = model.draw_with_latents(texts, seeds, steps=task.steps, batch=task.batch)
    for (prompt, seed), image, found in zip(part, images, latents, strict=True):
        yield Sample(image, prompt, seed, attack, found if prompt.kind == "general" else None)


def batches(task: AuditTask, pairs: Sequence[Seeded], size: int, attack: str) -> Iterator[Sequence[Seeded]]:
    """``pairs`` in their order, ``size`` at a time, reporting progress; without batches of which there are enough pictures."""
    for start in range(0, len(pairs), size):
        part = pairs[start : start + size]
        if task.enough is None or not all(task.enough(prompt) for prompt, _ in part):
            yield part
        if task.progress:
            task.progress(attack, start + len(part), len(pairs))


def seed_of(text: str) -> int:
    """A seed of noise, 0 .. 2^31."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1
