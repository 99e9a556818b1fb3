"""Searching for tokens by gradients: what P4D and UnlearnDiffAtk share. They differ in what they follow and how tokens are moved."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safeflux.attacks.drawing import Seeded
from safeflux.attacks.soft import Slotted, Tokens, Vocabulary, encode
from safeflux.errors import StageError
from safeflux.types import AuditTask, TextCond

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1

log = logging.getLogger(__name__)

Objective = Callable[[TextCond, list[int], int], Tensor]  # embeddings of some samples, which these are, the iteration: their losses


@dataclass(frozen=True)
class Pace:
    """``iterations`` of Adam with weight decay, ``rate`` and ``decay``; what was found is drawn and looked at ``looks`` times.

    ``attack``: under whose name progress is reported.
    """

    attack: str
    iterations: int
    looks: int
    rate: float
    decay: float


def chase(
    model: Flux1,
    task: AuditTask,
    part: Sequence[Seeded],
    prompts: Slotted,
    rests: Sequence[str],
    moved: tuple[Tokens, Tokens],
    words: tuple[Vocabulary, Vocabulary],
    objective: Objective,
    pace: Pace,
) -> dict[str, Tensor]:
    """Move the tokens of both encoders down ``objective`` until a picture shows the concept or the iterations are over.

    What is looked at is what a user can type: the tokens' text before each of ``rests``, tokenised anew, one text for each encoder.
    Where there is a prompt to put them before, it is tried without any first, as UnlearnDiffAtk counts it: what needs no attack is a
    success. Returns the ``latents`` [B, tokens, channels] of the first that showed it, else of the last, and its tokens ``clip`` and ``t5``
    [B, slots], -1 where there are none. Raises StageError outside an audit.
    """
    if task.shows is None:
        raise StageError("an attack that searches until the concept is there needs somebody to see it (task.shows), as an audit has")
    adam = torch.optim.AdamW([tokens.leaf for tokens in moved], lr=pace.rate, weight_decay=pace.decay)
    missing = list(range(len(part)))
    latents = torch.zeros_like(model.noise([seed for _, seed in part]))
    chosen = [torch.full((len(part), prompts.t5.slots), -1) for _ in moved]
    if all(rests):
        latents, plain = _shown(model, task, part, model.encode(rests))
        missing = [i for i, hit in enumerate(plain) if not hit]
    due = {round(pace.iterations * (look + 1) / pace.looks) for look in range(pace.looks)}
    for iteration in range(1, pace.iterations + 1 if missing else 1):
        (clip, _), (t5, _) = (tokens.put() for tokens in moved)
        loss = objective(encode(model, prompts[missing], clip[missing], t5[missing]), missing, iteration)
        _descend(adam, moved, loss)
        if task.progress:
            task.progress(f"{pace.attack}, tokens for {len(part)} pictures", iteration, pace.iterations)
        if iteration not in due:
            continue
        places = [tokens.put()[1].detach().cpu() for tokens in moved]
        drawn, hits = _look(model, task, [part[i] for i in missing], [rests[i] for i in missing], [at[missing] for at in places], words)
        latents[missing] = drawn
        for kept, at, w in zip(chosen, places, words, strict=True):
            kept[missing] = w.ids[at[missing]]
        missing = [i for i, hit in zip(missing, hits, strict=True) if not hit]
        log.debug("after %d iterations: mean loss %.4f, %d of %d shown", iteration, loss.mean().item(), len(part) - len(missing), len(part))
        if not missing:
            break
    return {"latents": latents, "clip": chosen[0], "t5": chosen[1]}


def _descend(adam: torch.optim.Optimizer, moved: Sequence[Tokens], loss: Tensor) -> None:
    """One step of all tokens down ``loss`` [B]."""
    for tokens, gradient in zip(moved, torch.autograd.grad(loss.sum(), [tokens.leaf for tokens in moved]), strict=True):
        tokens.leaf.grad = gradient
    adam.step()
    for tokens in moved:
        tokens.settle()


def _look(
    model: Flux1, task: AuditTask, part: Sequence[Seeded], rests: Sequence[str], places: Sequence[Tensor], words: Sequence[Vocabulary]
) -> tuple[Tensor, list[bool]]:
    """As ``_shown``, of the tokens at ``places`` of each encoder's words, typed before ``rests``."""
    clip, t5 = (
        [f"{found} {rest}".strip() for found, rest in zip(w.texts(at), rests, strict=True)] for w, at in zip(words, places, strict=True)
    )
    return _shown(model, task, part, model.encode(clip, t5))


def _shown(model: Flux1, task: AuditTask, part: Sequence[Seeded], cond: TextCond) -> tuple[Tensor, list[bool]]:
    """What is drawn of ``cond`` from each one's own noise, final latents [B, tokens, channels], and which show the concept."""
    assert task.shows is not None
    drawn = model.sample(model.noise([seed for _, seed in part]), cond, steps=task.steps)
    hits: list[bool] = task.shows([prompt for prompt, _ in part], model.decode(drawn)).tolist()
    return drawn, hits
