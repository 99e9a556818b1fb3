"""What attacks on the erased model take from the base model, and what they keep of their own work.

Whoever attacks weights may have the base model's, too, or pictures of the concept from elsewhere. The audit attacks the base model
first: its way from noise to picture is kept for the direct prompts that these attacks share, and the erased model is led there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from safeflux import prompts
from safeflux.attacks.drawing import Seeded, seeded
from safeflux.errors import StageError
from safeflux.policy import Concept
from safeflux.types import AuditTask, Prompt, Which

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1


def direct(task: AuditTask, images: int) -> list[Seeded]:
    """``images`` direct prompts a concept, by its first name in sentences of the audit's split, each with noise of its own.

    The same for every attack that asks, so that their successes can be compared pair by pair and the base model draws them once.
    """
    return [pair for c in task.concepts for pair in seeded(named(task, c, images), task, f"white box/{c.name}")]


def unrelated(task: AuditTask, n: int) -> list[Seeded]:
    """``n`` prompts that ask for what must stay, or for plain things where a policy names nothing."""
    nouns = task.retain or prompts.NOUNS
    return seeded(prompts.retained(nouns, n, split="audit", seed=task.seed, kind="general"), task, "white box/general")


def named(task: AuditTask, concept: Concept, n: int, split: prompts.Split = "audit") -> list[Prompt]:
    """``n`` sentences that name ``concept``."""
    return prompts.about(
        concept.name, concept.targets[:1], concept.category, n, split=split, seed=task.seed, label=concept.label, kind="attack"
    )


@torch.no_grad()
def way(model: Flux1, task: AuditTask, part: Sequence[Seeded], attack: str) -> Tensor:
    """The base model's latents from noise to picture: [B, steps + 1, tokens, channels].

    Drawn and kept if ``model`` is the base model, else read. Raises StageError without ``task.cache``, or when it lacks them.
    """
    where = _place(task, attack, [[p.text for p, _ in part], [s for _, s in part], task.steps, task.digests.get("base", "")], "base")
    if where.is_file():
        kept: Tensor = load_file(where)["way"].to(model.device)
        return kept
    if task.which != "base":
        raise StageError(
            f"{attack}: {task.cache} lacks the base model's latents for these prompts, which the erased model is to be driven to; "
            "attack the base model first, with the same task and number of pictures (if its pictures are kept from before, remove them)"
        )
    cond, sigmas = model.encode([p.text for p, _ in part]), model.sigmas(task.steps)
    steps = [model.noise([s for _, s in part])]
    for now, after in pairwise(sigmas):
        steps.append(steps[-1] + (after - now) * model.velocity(steps[-1], now, cond))
    found = torch.stack(steps, dim=1)
    _save({"way": found}, where)
    return found


def once(
    model: Flux1,
    task: AuditTask,
    attack: str,
    settings: object,
    make: Callable[[], Mapping[str, Tensor]],
    part: Sequence[Seeded] = (),
    by: Which | None = None,
) -> Mapping[str, Tensor]:
    """What ``make`` finds with ``model`` for ``part``, or found in an earlier, interrupted audit of the same weights and ``settings``;
    or what the other model found, if ``by`` names it.

    ``settings``: all that it depends on beside weights, prompts, noise and steps; JSON must be able to hold it. Weights that nobody
    names (``task.digests``) are worked on anew. Raises StageError without ``task.cache``.
    """
    digests = [task.digests.get("base", ""), task.digests.get(by or task.which, "")]
    pairs = [[p.text, s] for p, s in part]
    where = _place(task, attack, [pairs, task.seed, task.steps, digests, settings], attack)
    if digests[1] and where.is_file():
        return {name: tensor.to(model.device) for name, tensor in load_file(where).items()}
    found = make()
    if digests[1]:
        _save(found, where)
    return found


def judges(task: AuditTask) -> list[object]:
    """Who says what shows a concept: part of the ``settings`` of whatever depends on it."""
    return [[c.label, c.detector.name, dict(c.detector.options)] for c in task.concepts]


def _place(task: AuditTask, attack: str, parts: object, kind: str) -> Path:
    if task.cache is None:
        raise StageError(f"{attack} needs a directory for the base model's latents (task.cache), and was given none; name one")
    return task.cache / f"{kind}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]}.safetensors"


def _save(tensors: Mapping[str, Tensor], where: Path) -> None:
    where.parent.mkdir(parents=True, exist_ok=True)
    partial = where.with_suffix(".partial")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial)
    partial.replace(where)
