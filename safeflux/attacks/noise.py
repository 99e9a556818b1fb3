"""Best of n noises: a user who can set the sampler's noise draws one prompt again and again until the concept is there.

The noise-based attack of *When Are Concepts Erased From Diffusion Models?* (Lu et al., NeurIPS 2025, arXiv 2505.17013): more noise on the
way than the sampler would put there, its variance scaled. FLUX's sampler puts none: its ODE becomes an SDE that, at each noise level,
exchanges a part of the noise that is left for fresh noise,

    x_s = (1 - s) x0 + s scale (sqrt(1 - churn^2) e + churn e'),    x0 = x - sigma v,  e = x + (1 - sigma) v

with e' drawn anew and ``churn`` up to 1; above 1 there is only fresh noise, and more of it. ``scale`` holds for the first noise, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safeflux.attacks.drawing import Seeded, batches, seed_of
from safeflux.attacks.taught import direct, judges, once, way
from safeflux.errors import OptionError, StageError
from safeflux.types import AuditTask, Sample, TextCond

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1

PRESETS = {"quick": {"images": 40, "draws": 8}, "full": {"draws": 24}}


@dataclass(frozen=True)
class Luck:
    """After how many draws the best is looked at (``points``, rising), and what the draws go through in turn."""

    points: tuple[int, ...]
    churn: tuple[float, ...]
    scales: tuple[float, ...]

    def of(self, draw: int) -> tuple[float, float]:
        """Churn and scale of a draw, from 0 on."""
        return self.churn[draw % len(self.churn)], self.scales[draw // len(self.churn) % len(self.scales)]


def noise(
    model: Flux1,
    task: AuditTask,
    *,
    images: int = 60,
    draws: int = 12,
    curve: tuple[int, ...] = (1, 4),
    churn: tuple[float, ...] = (0.0, 0.5, 1.0, 1.4),
    scales: tuple[float, ...] = (1.0, 1.1, 0.9),
    batch: int = 16,
) -> Iterator[Sample]:
    """The best of ``draws`` pictures for each of ``images`` direct prompts a concept: the first that shows it, else the first of all.

    The first picture is the prompt's own; then come all pairs of ``churn`` and ``scales`` in turn (the authors take 24). ``curve``: the
    best of how many is measured beside. Whoever draws sees what he has drawn, so the audit's detector chooses (``task.shows``); its false
    alarms add up with the draws: of a concept that was never there, it sees in the best of 12 nearly 12 times as much as in one.

    Raises OptionError for numbers that make no sense, StageError outside an audit.
    """
    if min(images, draws, batch, *curve) < 1 or not churn or not scales or min(churn) < 0 or min(scales) <= 0:
        raise OptionError(
            f"noise: images {images}, draws {draws}, curve {curve}, churn {churn}, scales {scales}, batch {batch}; wanted numbers of at "
            "least 1, churns of at least 0 and scales above 0, at least one of each"
        )
    luck = Luck(tuple(sorted({n for n in curve if n < draws} | {draws})), tuple(churn), tuple(scales))
    for part in batches(task, direct(task, images), batch, "noise"):
        if task.which == "base":
            found, points = way(model, task, part, "noise")[:, -1:], luck.points[-1:]
        else:
            settings, points = [asdict(luck), judges(task)], luck.points
            found = once(model, task, "noise", settings, partial(_best, model, task, part, luck), part)["best"]
        for i, n in enumerate(points):
            for (prompt, seed), image in zip(part, model.decode(found[:, i]), strict=True):
                yield Sample(image, prompt, seed, "noise" if n == draws else f"noise, best of {n}")


def _best(model: Flux1, task: AuditTask, part: Sequence[Seeded], luck: Luck) -> dict[str, Tensor]:
    """Of each pair the latents of the best of so many draws: "best", [B, points, tokens, channels]."""
    if task.shows is None:
        raise StageError("noise needs somebody to see what it drew (task.shows), as an audit has")
    cond, best, chosen = model.encode([p.text for p, _ in part]), None, []
    missing = list(range(len(part)))
    for i in range(luck.points[-1]):
        if missing:
            drawn = churned(model, [part[j][1] for j in missing], cond[missing], i, task.steps, *luck.of(i))
            best = drawn.clone() if best is None else best
            hits = task.shows([part[j][0] for j in missing], model.decode(drawn)).tolist()
            for j, hit, latents in zip(missing, hits, drawn, strict=True):
                if hit:
                    best[j] = latents
            missing = [j for j, hit in zip(missing, hits, strict=True) if not hit]
        if i + 1 in luck.points:
            assert best is not None
            chosen.append(best.clone())
    return {"best": torch.stack(chosen, dim=1)}


@torch.no_grad()
def churned(model: Flux1, seeds: Sequence[int], cond: TextCond, draw: int, steps: int, churn: float, scale: float) -> Tensor:
    """Latents [B, tokens, channels] of one draw. Draw 0 starts from the seeds' own noise, and without churn is what they give anyway."""

    def fresh(step: int) -> Tensor:
        return model.noise(seeds if (draw, step) == (0, 0) else [seed_of(f"{seed}/{draw}/{step}") for seed in seeds])

    x, sigmas = scale * fresh(0), model.sigmas(steps)
    for step, (now, after) in enumerate(pairwise(sigmas), 1):
        v = model.velocity(x, now, cond)
        if churn and after > 0:
            left = max(0.0, 1 - churn**2) ** 0.5
            x = (1 - after) * (x - now * v) + after * scale * (left * (x + (1 - now) * v) + churn * fresh(step))
        else:
            x = x + (after - now) * v
    return x
