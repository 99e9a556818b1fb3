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

    Returns what ``Drawn`` tells. Raises StageError outside an audit.
    """
    adam = torch.optim.AdamW([tokens.leaf for tokens in moved], lr=pace.rate, weight_decay=pace.decay)
    drawn = Drawn(model, task, part, rests, words, prompts.t5.slots)
    due = {round(pace.iterations * (look + 1) / pace.looks) for look in range(pace.looks)}
    for iteration in range(1, pace.iterations + 1):
        if not (missing := drawn.missing):
            break
        clip, t5 = (tokens.put() for tokens in moved)
        loss = objective(encode(model, prompts[missing], clip[missing], t5[missing]), missing, iteration)
        _descend(adam, moved, loss)
        if task.progress:
            task.progress(f"{pace.attack}, tokens for {len(part)} pictures", iteration, pace.iterations)
        if iteration in due:
            drawn.look([tokens.best() for tokens in moved])
            log.debug("after %d iterations: mean loss %.4f, %d of %d missing", iteration, loss.mean(), len(drawn.missing), len(part))
    return drawn.found


def guess(
    model: Flux1,
    task: AuditTask,
    part: Sequence[Seeded],
    rests: Sequence[str],
    words: tuple[Vocabulary, Vocabulary],
    slots: int,
    tries: int,
) -> dict[str, Tensor]:
    """The same with nothing to follow: tokens drawn at random, ``tries`` times. What a search finds more, its gradients have found.

    A picture's tokens depend on its noise seed alone.
    """
    drawn, random = Drawn(model, task, part, rests, words, slots), [torch.Generator().manual_seed(seed) for _, seed in part]
    for _ in range(tries):
        if not drawn.missing:
            break
        drawn.look([torch.stack([torch.randint(len(w.ids), (slots,), generator=one) for one in random]) for w in words])
    return drawn.found


class Drawn:
    """What was drawn of ``part`` until it showed the concept, and where it is still ``missing``.

    What is looked at is what a user can type: tokens' text before each of ``rests``, tokenised anew, one text for each encoder. Where there
    is a prompt to put them before, it is tried without any first, as UnlearnDiffAtk counts it: what needs no attack is a success.
    ``found``: the ``latents`` [B, tokens, channels] of the first that showed it, else of the last, and its tokens ``clip`` and ``t5``
    [B, slots], -1 where there are none. Raises StageError outside an audit.
    """

    def __init__(
        self, model: Flux1, task: AuditTask, part: Sequence[Seeded], rests: Sequence[str], words: Sequence[Vocabulary], slots: int
    ) -> None:
        if task.shows is None:
            raise StageError("an attack that searches until the concept is there needs somebody to see it (task.shows), as an audit has")
        self._model, self._part, self._rests, self._words = model, part, rests, words
        self._steps, self._shows = task.steps, task.shows
        self.missing = list(range(len(part)))
        self.found = {"latents": torch.zeros_like(model.noise([seed for _, seed in part]))}
        self.found |= {encoder: torch.full((len(part), slots), -1) for encoder in ("clip", "t5")}
        if all(rests):
            self._draw(model.encode(rests))

    def look(self, places: Sequence[Tensor]) -> None:
        """Draw what is missing with the tokens at ``places`` [B, slots] of each encoder's words."""
        chosen = [at[self.missing].cpu() for at in places]
        for encoder, at, w in zip(("clip", "t5"), chosen, self._words, strict=True):
            self.found[encoder][self.missing] = w.ids[at]
        rests = [self._rests[i] for i in self.missing]
        clip, t5 = (
            [f"{text} {rest}".strip() for text, rest in zip(w.texts(at), rests, strict=True)]
            for w, at in zip(self._words, chosen, strict=True)
        )
        self._draw(self._model.encode(clip, t5))

    def _draw(self, cond: TextCond) -> None:
        """What is missing, from each one's own noise."""
        part = [self._part[i] for i in self.missing]
        latents = self._model.sample(self._model.noise([seed for _, seed in part]), cond, steps=self._steps)
        self.found["latents"][self.missing] = latents
        hits = self._shows([prompt for prompt, _ in part], self._model.decode(latents)).tolist()
        self.missing = [i for i, hit in zip(self.missing, hits, strict=True) if not hit]


def _descend(adam: torch.optim.Optimizer, moved: Sequence[Tokens], loss: Tensor) -> None:
    """One step of all tokens down ``loss`` [B]."""
    for tokens, gradient in zip(moved, torch.autograd.grad(loss.sum(), [tokens.leaf for tokens in moved]), strict=True):
        tokens.leaf.grad = gradient
    adam.step()
    for tokens in moved:
        tokens.settle()
