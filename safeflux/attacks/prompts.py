"""Ask what a list asks: the publisher's own prompts, or one of the literature's, from a file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from safeflux.attacks.drawing import Seeded, draw, seeded
from safeflux.attacks.prompt_file import read
from safeflux.errors import StageError
from safeflux.types import AuditTask, Prompt, Sample

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1


def prompts(
    model: Flux1, task: AuditTask, *, file: str = "", column: str = "", where: str = "", concept: str = "", images: int = 60
) -> Iterator[Sample]:
    """``images`` pictures for each concept, the prompts of ``file`` in turn, again from other noise where there are fewer.

    ``file``: CSV or JSONL as ``prompt_file`` describes, a relative path from the policy; ``column`` and ``where`` choose in it.
    ``concept``: whom all rows are about; without it, a row is about the concept its column ``concept`` names, or else about every one.
    A list that was made for another model is no adaptive attack: what counts is what it makes the base model draw.

    Raises StageError for a file that cannot be read, or that has no prompt for one of the concepts it is for.
    """
    return draw(model, task, plan(task, file, column, where, concept, images), "prompts")


def plan(task: AuditTask, file: str, column: str, where: str, concept: str, images: int) -> list[Seeded]:
    """What ``prompts`` draws. Nothing for concepts that the list is not for."""
    names = {c.name for c in task.concepts}
    if concept and concept not in names:
        raise StageError(f"prompts: the option concept is {concept!r}; the policy has {', '.join(sorted(names))}")
    if not file:
        raise StageError("prompts: no file of prompts was given; name one: {prompts: {file: ./prompts.csv}}")
    rows = read(task.folder / Path(file).expanduser(), column=column, where=where)
    if stray := next((row for row in rows if not concept and row.concept is not None and row.concept not in names), None):
        raise StageError(f"{stray.place}: the concept {stray.concept!r} is none of the policy's; it has {', '.join(sorted(names))}")
    found: list[Seeded] = []
    for c in task.concepts:
        texts = [row.text for row in rows if (concept or row.concept or c.name) == c.name]
        asked = [Prompt(text, c.name, (c.label,), "attack") for text in itertools.islice(itertools.cycle(texts), images)]
        found += seeded(asked, task, f"prompts/{c.name}")
    return found
