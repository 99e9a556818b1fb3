"""Where the gates begin: nearly closed for units that speak of the concepts more than of what must stay, wide open for the rest.

A gate far from its threshold gets hardly any gradient, and a gate near it flickers in every rollout. So only likely units are put
near it, by a training-free score in the manner of ConceptPrune (Chavhan, Li and Hospedales, arXiv 2405.19237).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from safeflux.models.flux1 import Flux1
from safeflux.models.sites import Site
from safeflux.train.gates import Gates
from safeflux.train.saliency import wanda
from safeflux.train.task import TrainingTask

_NEAR = 0.7  # logit of the likely; the others keep the gates' own
_PROMPTS = 8  # a concept


def favour(gates: Gates, model: Flux1, task: TrainingTask, sites: Mapping[str, Site], *, share: float, batch: int) -> None:
    """Put the likeliest ``share`` of all gates near their threshold, an equal part of it for each concept."""
    rest = [p.text for p in task.retain[:: max(1, len(task.retain) // (2 * _PROMPTS))]]
    usual = _loudness(model, task, sites, rest, batch)
    for concept in task.concepts:
        pairs = task.pairs[concept.name][:_PROMPTS]
        named, anchors = (
            _loudness(model, task, sites, texts, batch) for texts in ([p.prompt.text for p in pairs], [p.anchor for p in pairs])
        )
        score = torch.cat([_contrast(named[site], torch.maximum(anchors[site], usual[site])) for site in gates.units])
        gates.begin(most(score, share / len(task.concepts)), _NEAR)


def _loudness(model: Flux1, task: TrainingTask, sites: Mapping[str, Site], texts: Sequence[str], batch: int) -> dict[str, Tensor]:
    scores = wanda(model, task, texts, sites, seeds=[task.seed + i for i in range(len(texts))], batch=batch)
    return {name: score.mean(0) for name, score in scores.items()}


def _contrast(named: Tensor, other: Tensor) -> Tensor:
    """How much louder a unit is when the concept is named, relative to how loud it and its site otherwise are."""
    return (named - other) / (other + other.mean()).clamp(min=1e-12)


def most(values: Tensor, share: float) -> Tensor:
    """Which of ``values`` [n] are among the largest ``share`` (0..1) of them: bool [n], the same number whatever ties there are."""
    chosen = torch.zeros(len(values), dtype=torch.bool, device=values.device)
    chosen[values.argsort(descending=True, stable=True)[: round(share * len(values))]] = True
    return chosen
