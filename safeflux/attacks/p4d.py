"""Prompting4Debugging: the base model teaches what the erased one must be asked (Chin et al., ICML 2024, arXiv 2309.06135).

Tokens are moved as embeddings until the erased model, asked with them, goes where the base model goes for the direct prompt p:

    | v_erased(x_t, tokens) - v_base(x_t, p) |^2

on the base model's own way from noise to picture. What is used is always the nearest token of the vocabulary, and its gradient is taken
for the embedding's own. Where this departs from the authors' code:

- FLUX reads a prompt twice: there are tokens for CLIP and for T5, as pipelines take a text for each.
- x_t are where the base model's sampler is at its steps; theirs come from random steps of a long schedule.
- The prompt's own words follow the tokens (their P4D-K has them among them); without ``keep`` tokens take their place (P4D-N).
- Embeddings are moved in units of the vocabulary's spread, since CLIP's are a hundred times smaller than T5's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safeflux.attacks.chase import Pace, chase
from safeflux.attacks.drawing import Seeded, batches, seed_of
from safeflux.attacks.soft import Vocabulary, room, slotted, vocabularies
from safeflux.attacks.taught import direct, judges, once, way
from safeflux.errors import OptionError
from safeflux.types import AuditTask, Sample, TextCond

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1

PRESETS = {"quick": {"images": 24, "iterations": 60, "looks": 6}, "full": {"tokens": 16, "iterations": 3000, "looks": 60}}


def p4d(
    model: Flux1,
    task: AuditTask,
    *,
    images: int = 60,
    tokens: int = 8,
    keep: bool = True,
    iterations: int = 200,
    rate: float = 0.1,
    decay: float = 0.1,
    looks: int = 20,
    batch: int = 16,
) -> Iterator[Sample]:
    """``tokens`` (no more than the encoders read) for each of ``images`` direct prompts a concept; the authors' number is that of "full".

    An iteration is one step of denoising, forward and back, of each picture; the picture is looked at ``looks`` times, and the search ends
    when it shows the concept. Raises OptionError for numbers that make no sense, StageError when the base model has not been here, or
    outside an audit.
    """
    if min(images, tokens, iterations, looks, batch) < 1 or rate <= 0 or decay < 0:
        raise OptionError(
            f"p4d: images {images}, tokens {tokens}, iterations {iterations}, looks {looks}, batch {batch}, rate {rate:g}, decay "
            f"{decay:g}; wanted numbers of at least 1, a rate above 0 and a decay of at least 0"
        )
    pace, tokens = Pace("p4d", iterations, min(looks, iterations), rate, decay), min(tokens, room(model) // (2 if keep else 1))
    words = vocabularies(model) if task.which == "erased" else None
    for part in batches(task, direct(task, images), batch, "p4d"):
        path = way(model, task, part, "p4d")
        latents = path[:, -1]
        if words is not None:
            settings = [tokens, keep, iterations, rate, decay, looks, judges(task)]
            hunt = partial(_hunt, model, task, part, path, words, tokens, pace, keep)
            latents = once(model, task, "p4d", settings, hunt, part)["latents"]
        for (prompt, seed), image in zip(part, model.decode(latents), strict=True):
            yield Sample(image, prompt, seed, "p4d")


def _hunt(
    model: Flux1,
    task: AuditTask,
    part: Sequence[Seeded],
    path: Tensor,
    words: tuple[Vocabulary, Vocabulary],
    tokens: int,
    pace: Pace,
    keep: bool,
) -> dict[str, Tensor]:
    rests, seeds = [prompt.text if keep else "" for prompt, _ in part], [seed for _, seed in part]
    first, second = (Nearest(w.table, seeds, tokens) for w in words)
    sigmas = model.sigmas(task.steps)

    def strays(cond: TextCond, some: list[int], iteration: int) -> Tensor:
        """How far the erased model goes from the base model's way, at one step."""
        drawn = torch.Generator().manual_seed(seed_of(f"{task.seed}/p4d/{iteration}"))
        at = int(torch.randint(task.steps, (), generator=drawn))
        target = (path[some, at + 1] - path[some, at]) / (sigmas[at + 1] - sigmas[at])
        return (model.velocity(path[some, at], sigmas[at], cond) - target).float().square().mean((1, 2))

    return chase(model, task, part, slotted(model, [("", r) for r in rests], tokens), rests, (first, second), words, strays, pace)


class Nearest:
    """Tokens as free embeddings ``leaf`` [B, slots, D], in units of the table's spread, used as the nearest of a vocabulary.

    They start at random ones, by the ``seeds``.
    """

    def __init__(self, table: Tensor, seeds: Sequence[int], slots: int) -> None:
        self._table, self._spread = table, table.std()
        rows = [torch.randint(len(table), (slots,), generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        self.leaf = (table[torch.stack(rows).to(table.device)] / self._spread).requires_grad_()

    def put(self) -> Tensor:
        soft = self.leaf * self._spread
        return soft + (self._table[self.best()] - soft).detach()

    @torch.no_grad()
    def best(self) -> Tensor:
        return torch.cdist((self.leaf * self._spread).flatten(0, 1), self._table).argmin(-1).view(self.leaf.shape[:2])

    def settle(self) -> None:
        """Embeddings may be anywhere."""
