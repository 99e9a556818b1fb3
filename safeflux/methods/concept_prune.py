"""Training-free pruning: find the neurons that speak for a concept and not for what shall stay, and close them.

Chavhan et al., *ConceptPrune: Concept Editing in Diffusion Models via Skilled Neuron Pruning*, arXiv 2405.19237. Neurons are scored
as Wanda scores weights (``safeflux.train.saliency``), step by step. One is closed if at some early step it is among the top of its
layer for a concept's prompts, and scores higher there than for the prompts without the concept. The paper cuts single weights of
the layer that reads the neurons; here whole neurons go, since a mask speaks of neurons.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from safeflux.errors import OptionError
from safeflux.models.flux1 import Flux1
from safeflux.models.sites import Site, choose
from safeflux.train.saliency import wanda
from safeflux.train.task import TrainingTask
from safeflux.types import Masks, Progress

Score = Callable[[Sequence[str], int], dict[str, Tensor]]  # texts and their first noise seed to scores [steps, units] by site


def concept_prune(
    model: Flux1,
    task: TrainingTask,
    *,
    share: float = 0.01,
    early: float = 0.5,
    images: int = 40,
    batch: int = 16,
    sites: Sequence[str] = ("ff", "ff_context", "proj_mlp"),
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> Masks:
    """Draw, score, close. The model is only looked at; the same task gives the same mask.

    ``share``: of each site's units, how many count as the concept's top at a step (at least one, unless 0). ``early``: the part of
    the denoising steps that is looked at, from the first on (at least one step). ``images`` pictures are drawn, ``batch`` at a time,
    for each concept's prompts, as many from the same noise for their anchors, and as many a concept for retained prompts.
    ``sites``: kinds or groups of units. Raises ``OptionError``.
    """
    if not (0 <= share <= 1 and 0 < early <= 1 and images > 0 and batch > 0):
        raise OptionError(
            f"concept-prune: share {share}, early {early}, images {images}, batch {batch}; wanted a share of 0 to 1, "
            "an early part above 0 and up to 1, at least one picture, and a batch of at least one"
        )
    chosen = choose(model.sites(), sites)
    steps = math.ceil(early * task.steps)
    score = _scorer(model, task, chosen, images, batch, progress)
    stay = score([prompt.text for prompt in task.retain], len(task.concepts)) if task.retain else {}
    keep = {name: torch.ones(site.units, dtype=torch.bool) for name, site in chosen.items()}
    for at, concept in enumerate(task.concepts):
        pairs = task.pairs[concept.name]
        named, anchor = score([p.prompt.text for p in pairs], at), score([p.anchor for p in pairs], at)
        for name in chosen:
            base = torch.maximum(anchor[name], stay[name]) if stay else anchor[name]
            keep[name] &= ~skilled(named[name][:steps], base[:steps], share).cpu()
    return Masks(keep)


def skilled(named: Tensor, base: Tensor, share: float) -> Tensor:
    """Which units [units] are, at some step, in the top ``share`` of ``named`` [steps, units] and above ``base`` [steps, units]."""
    count = min(named.shape[1], max(1, round(share * named.shape[1]))) if share else 0
    top = torch.zeros_like(named, dtype=torch.bool).scatter_(1, named.topk(count, dim=1).indices, True)
    return (top & (named > base)).any(0)


def _scorer(model: Flux1, task: TrainingTask, sites: dict[str, Site], images: int, batch: int, progress: Progress | None) -> Score:
    """Scores of texts taken in turn. ``which`` (a concept's place, or one beyond for all that stays) decides the noise and how many."""
    done, total = 0, 3 * images * len(task.concepts)

    def score(texts: Sequence[str], which: int) -> dict[str, Tensor]:
        nonlocal done
        n = images if which < len(task.concepts) else images * len(task.concepts)
        random = torch.Generator().manual_seed(task.seed * 100_003 + which)
        seeds = torch.randint(0, 2**31, (n,), generator=random).tolist()
        tell = (lambda k, before=done: progress("score the neurons", before + k, total)) if progress else None
        found = wanda(model, task, list(itertools.islice(itertools.cycle(texts), n)), sites, seeds=seeds, batch=batch, progress=tell)
        done += n
        return found

    return score
