"""UnlearnDiffAtk: an adversarial prefix that makes the erased model see the concept itself (Zhang et al., ECCV 2024, arXiv 2310.11868).

No second model judges: a denoiser is a classifier, and the erased model's own error on a picture of the concept tells how well a text
fits it. With x0 a picture and v the erased model's velocity, the prefix is moved down

    | v((1 - sigma) x0 + sigma e, sigma, prefix + prompt) - (e - x0) |^2

Each token of the prefix is a point of the simplex over the vocabulary, projected back after every step; the token with the most weight
is used, and its gradient is taken for that of the whole point. Where this departs from the authors' code:

- FLUX reads a prompt twice: there is a prefix for CLIP and one for T5, as pipelines take a text for each.
- Noise levels are those the sampler visits; a distilled model knows no others.
- The target picture of a prompt is the base model's own, from the same noise; the authors take one picture for all prompts.
- They stop when a detector sees the concept, looking after every iteration; here it looks ``looks`` times.
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

PRESETS = {"quick": {"images": 24, "iterations": 20, "looks": 2}, "full": {"iterations": 100, "looks": 20}}


def unlearndiffatk(
    model: Flux1,
    task: AuditTask,
    *,
    images: int = 60,
    tokens: int = 5,
    iterations: int = 40,
    rate: float = 0.01,
    decay: float = 0.1,
    looks: int = 4,
    batch: int = 16,
) -> Iterator[Sample]:
    """A prefix of ``tokens`` for each of ``images`` direct prompts a concept. The numbers are the authors' (full: more of them).

    An iteration is one step of denoising, forward and back, of each picture. Raises OptionError for numbers that make no sense, StageError
    when the base model has not been here, or outside an audit.
    """
    if min(images, tokens, iterations, looks, batch) < 1 or rate <= 0 or decay < 0:
        raise OptionError(
            f"unlearndiffatk: images {images}, tokens {tokens}, iterations {iterations}, looks {looks}, batch {batch}, rate {rate:g}, "
            f"decay {decay:g}; wanted numbers of at least 1, a rate above 0 and a decay of at least 0"
        )
    pace, tokens = Pace("unlearndiffatk", iterations, min(looks, iterations), rate, decay), min(tokens, room(model) // 2)
    words = vocabularies(model) if task.which == "erased" else None
    for part in batches(task, direct(task, images), batch, "unlearndiffatk"):
        latents = way(model, task, part, "unlearndiffatk")[:, -1]
        if words is not None:
            settings = [tokens, iterations, rate, decay, looks, judges(task)]
            hunt = partial(_hunt, model, task, part, latents, words, tokens, pace)
            latents = once(model, task, "unlearndiffatk", settings, hunt, part)["latents"]
        for (prompt, seed), image in zip(part, model.decode(latents), strict=True):
            yield Sample(image, prompt, seed, "unlearndiffatk")


def _hunt(
    model: Flux1, task: AuditTask, part: Sequence[Seeded], pictures: Tensor, words: tuple[Vocabulary, Vocabulary], tokens: int, pace: Pace
) -> dict[str, Tensor]:
    texts, seeds = [prompt.text for prompt, _ in part], [seed for _, seed in part]
    first, second = (Simplex(w.table, seeds, tokens) for w in words)
    sigmas = model.sigmas(task.steps)[:-1]

    def fits(cond: TextCond, some: list[int], iteration: int) -> Tensor:
        """How ill each text fits its picture, at one noise level."""
        drawn = torch.Generator().manual_seed(seed_of(f"{task.seed}/unlearndiffatk/{iteration}"))
        sigma = sigmas[int(torch.randint(len(sigmas), (), generator=drawn))]
        e, x0 = model.noise([seed_of(f"{seeds[i]}/{iteration}") for i in some]), pictures[some]
        v = model.velocity((1 - sigma) * x0 + sigma * e, sigma, cond)
        return (v - (e - x0)).float().square().mean((1, 2))

    return chase(model, task, part, slotted(model, [("", t) for t in texts], tokens), texts, (first, second), words, fits, pace)


class Simplex:
    """Tokens as points of the simplex over a vocabulary: ``leaf`` [B, slots, V]. They start near its middle, by the ``seeds``."""

    def __init__(self, table: Tensor, seeds: Sequence[int], slots: int) -> None:
        self._table = table
        drawn = [torch.rand(slots, len(table), generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        self.leaf = project(torch.stack(drawn).to(table.device) / len(table)).requires_grad_()

    def put(self) -> tuple[Tensor, Tensor]:
        best = self.leaf.argmax(dim=-1)
        soft = self.leaf @ self._table
        return soft + (self._table[best] - soft).detach(), best

    @torch.no_grad()
    def settle(self) -> None:
        self.leaf.copy_(project(self.leaf))


def project(u: Tensor, halvings: int = 50) -> Tensor:
    """The point of the simplex (at least 0, sum 1) nearest to each row of ``u`` [..., V]: max(u - t, 0), t found by bisection."""
    low, high = u.amin(-1, keepdim=True) - 1, u.amax(-1, keepdim=True)
    for _ in range(halvings):
        middle = (low + high) / 2
        much = (u - middle).clamp_min(0).sum(-1, keepdim=True) > 1
        low, high = torch.where(much, middle, low), torch.where(much, high, middle)
    found = (u - (low + high) / 2).clamp_min(0)
    return found / found.sum(-1, keepdim=True)
