"""UnlearnDiffAtk: an adversarial prefix that makes the erased model see the concept itself (Zhang et al., ECCV 2024, arXiv 2310.11868).

No second model judges: a denoiser is a classifier, and the erased model's own error on a picture of the concept tells how well a text
fits it. With x0 a picture and v the erased model's velocity, the prefix is moved down

    | v((1 - sigma) x0 + sigma e, sigma, prefix + prompt) - (e - x0) |^2

Each token of the prefix is a point of the simplex over the vocabulary, projected back after every step. The token that is tried is drawn
by its weights, and its gradient is taken for that of the whole point; looked at are the tokens with the most weight. Where this departs
from the authors' code:

- FLUX reads a prompt twice: there is a prefix for CLIP and one for T5, as pipelines take a text for each.
- Noise levels are those the sampler visits, drawn anew in every iteration; a distilled model knows no others. The authors take 50 levels
  one after the other, with 40 iterations and then a look at each.
- The target picture of a prompt is the base model's own, from the same noise; the authors take one picture for all prompts.
- Gradients are not clipped (at 1 each, in their code).

Prefixes drawn at random, the authors' control, are measured beside: what the search finds more, its gradients have found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safeflux.attacks.chase import Pace, chase, guess
from safeflux.attacks.drawing import Seeded, batches, seed_of
from safeflux.attacks.soft import Vocabulary, room, slotted, vocabularies
from safeflux.attacks.taught import direct, judges, once, way
from safeflux.errors import OptionError
from safeflux.types import AuditTask, Sample, TextCond

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1

PRESETS = {"quick": {"images": 24, "iterations": 40, "looks": 5, "guesses": 0}, "full": {"iterations": 2000, "looks": 50, "guesses": 50}}
RANDOM = "unlearndiffatk, random tokens"  # the line of guesses


def unlearndiffatk(
    model: Flux1,
    task: AuditTask,
    *,
    images: int = 60,
    tokens: int = 5,
    iterations: int = 200,
    rate: float = 0.01,
    decay: float = 0.1,
    looks: int = 20,
    guesses: int = 20,
    batch: int = 16,
) -> Iterator[Sample]:
    """A prefix of ``tokens`` for each of ``images`` direct prompts a concept; beside, the best of ``guesses``, none for 0.

    An iteration is one step of denoising, forward and back, of each picture; the picture is looked at ``looks`` times, and the search ends
    when it shows the concept. The other numbers are the authors', and in "full" all are. Raises OptionError for numbers that make no
    sense, StageError when the base model has not been here, or outside an audit.
    """
    if min(images, tokens, iterations, looks, batch) < 1 or rate <= 0 or min(decay, guesses) < 0:
        raise OptionError(
            f"unlearndiffatk: images {images}, tokens {tokens}, iterations {iterations}, looks {looks}, batch {batch}, rate {rate:g}, "
            f"decay {decay:g}, guesses {guesses}; wanted numbers of at least 1, a rate above 0, and decay and guesses of at least 0"
        )
    pace, tokens = Pace("unlearndiffatk", iterations, min(looks, iterations), rate, decay), min(tokens, room(model) // 2)
    words = vocabularies(model) if task.which == "erased" else None
    for part in batches(task, direct(task, images), batch, "unlearndiffatk"):
        pictures, found = way(model, task, part, "unlearndiffatk")[:, -1], {}
        if words is None:
            found["unlearndiffatk"] = pictures
        else:
            hunt = partial(_hunt, model, task, part, pictures, words, tokens, pace)
            settings = [tokens, iterations, rate, decay, looks, judges(task)]
            found["unlearndiffatk"] = once(model, task, "unlearndiffatk", settings, hunt, part)["latents"]
            if guesses:
                tries = partial(guess, model, task, part, [prompt.text for prompt, _ in part], words, tokens, guesses)
                found[RANDOM] = once(model, task, "unlearndiffatk-random", [tokens, guesses, judges(task)], tries, part)["latents"]
        for name, latents in found.items():
            for (prompt, seed), image in zip(part, model.decode(latents), strict=True):
                yield Sample(image, prompt, seed, name)


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
    """Tokens as points of the simplex over a vocabulary: ``leaf`` [B, slots, V]. They start near its middle, and are drawn, by the
    ``seeds``."""

    def __init__(self, table: Tensor, seeds: Sequence[int], slots: int) -> None:
        self._table, self._random = table, [torch.Generator().manual_seed(seed) for seed in seeds]
        drawn = torch.stack([torch.rand(slots, len(table), generator=one) for one in self._random])
        self.leaf = project(drawn.to(table.device) / len(table)).requires_grad_()

    def put(self) -> Tensor:
        soft = self.leaf @ self._table
        return soft + (self._table[self._drawn()] - soft).detach()

    @torch.no_grad()
    def _drawn(self) -> Tensor:
        """A token of each slot, by its weight: places [B, slots]."""
        heights = self.leaf.cumsum(-1)
        at = torch.stack([torch.rand(self.leaf.shape[1], 1, generator=one) for one in self._random]).to(self.leaf.device)
        return torch.searchsorted(heights, at * heights[..., -1:], right=True).squeeze(-1).clamp_max(len(self._table) - 1)

    def best(self) -> Tensor:
        return self.leaf.detach().argmax(dim=-1)

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
