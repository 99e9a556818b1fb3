"""The attack that is none: ask for the concept by its name. Retained things are asked for the same way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from safeflux import prompts
from safeflux.attacks.drawing import Seeded, draw, seeded
from safeflux.types import AuditTask, Sample

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1


def none(model: Flux1, task: AuditTask, *, images: int = 60) -> Iterator[Sample]:
    """``images`` pictures for each concept by its first name, as many for its neighbours, as many for all general nouns.

    The sentences are of the audit's split: none was trained on.
    """
    return draw(model, task, plan(task, images), "none")


def plan(task: AuditTask, images: int) -> list[Seeded]:
    """What ``none`` draws, concepts first."""
    found: list[Seeded] = []
    for c in task.concepts:
        direct = prompts.about(c.name, c.targets[:1], c.category, images, split="audit", seed=task.seed, label=c.label)
        found += seeded(direct, task, f"none/{c.name}")
    for c in task.concepts:
        if c.retain:
            near = prompts.retained(
                c.retain, images, split="audit", seed=task.seed, kind="neighbour", category=kind_of_neighbours(c.category)
            )
            found += seeded(near, task, f"none/neighbours of {c.name}")
    if task.retain:
        found += seeded(prompts.retained(task.retain, images, split="audit", seed=task.seed, kind="general"), task, "none/general")
    return found


def kind_of_neighbours(category: str) -> str:
    """Neighbours are of the concept's own kind, and asked for as such; those of nudity or violence are everyday things."""
    return category if category in ("style", "character", "identity") else "object"
