"""Texts that were searched with the text encoders alone: kept one by one, so that both models are given the same and none is lost."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from safeflux.attacks.drawing import Seeded, seeded
from safeflux.attacks.meaning import embed
from safeflux.files import write_atomic
from safeflux.policy import Concept
from safeflux.types import AuditTask, Prompt

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Text:
    """A found text: how far it stayed from the target, how far the text was that its search began with, and how many texts were put
    through the encoders."""

    text: str
    loss: float
    start: float
    evaluations: int


def find(model: Flux1, task: AuditTask, concept: Concept, attack: str, settings: object, n: int, hunt: Callable[[int], Text]) -> list[Text]:
    """``n`` texts, ``hunt(i)`` each; those that ``task.cache`` already holds are not searched again.

    ``settings``: all that they depend on beside concept, seed and text encoders; JSON must be able to hold it.
    """
    path = _path(model, task, concept, attack, [settings, n])
    found = [Text(**text) for text in json.loads(path.read_text("utf-8"))] if path and path.exists() else []
    while len(found) < n:
        found.append(hunt(len(found)))
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps([asdict(text) for text in found], indent=1, ensure_ascii=False))
    spent = sum(text.evaluations for text in found)
    log.info("%s, %s: %d texts, %d texts encoded, mean loss %.3f", attack, concept.name, n, spent, np.mean([t.loss for t in found]))
    return found


def shots(task: AuditTask, concept: Concept, attack: str, found: list[Text], images: int) -> list[Seeded]:
    """``images`` prompts, the texts in turn, each with noise of its own."""
    asked = [Prompt(found[i % len(found)].text, concept.name, (concept.label,), "attack") for i in range(images)]
    return seeded(asked, task, f"{attack}/{concept.name}")


def _path(model: Flux1, task: AuditTask, concept: Concept, attack: str, settings: object) -> Path | None:
    """Named by everything the texts depend on; the encoders by what they make of a sentence."""
    if task.cache is None:
        return None
    probe = [vectors.round(3).tolist() for vectors in embed(model, ["a picture of a house"], "both")]
    words = [concept.name, concept.category, concept.targets, concept.anchor, task.retain]
    text = json.dumps([settings, task.seed, words, probe, len(model.tokenizer), len(model.tokenizer_2)])
    return task.cache / f"{attack}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"
