"""Minimalist concept erasure: one binary mask for all concepts, trained on final outputs through every denoising step.

Zhang et al., *Minimalist Concept Erasure in Generative Models*, ICML 2025, arXiv 2507.13386:

    L = mean over concepts of |F(x_T, anchor) - F_mask(x_T, concept)|^2  +  beta |F(x_T, c) - F_mask(x_T, c)|^2

Both terms are divided by what the base model itself has there between concept and anchor, so ``beta`` means the same for
every model and concept: at 1, a retained picture that drifts as far as a concept lies from its anchor costs as much as a
concept left standing. Unlike the authors' released code: one gate sample for a whole rollout (and its recomputation), one
backward pass, all concepts at once, single blocks too, fresh noise in every update, and a price on every gate that closes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from safeflux.models.flux1 import Flux1
from safeflux.models.sites import Site, choose, gated
from safeflux.train.checkpoints import Checkpoints
from safeflux.train.gates import Gates
from safeflux.train.rollout import rollout
from safeflux.train.task import TrainingTask
from safeflux.types import Masks, Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """One update's work: first the concept prompts (``owners[i]`` is the i-th one's concept), then the retained ones."""

    texts: list[str]
    targets: list[str]
    owners: list[int]
    seeds: list[int]


def mask(
    model: Flux1,
    task: TrainingTask,
    *,
    updates: int = 90,
    batch: int = 40,
    beta: float = 3.0,
    rate: float = 0.3,
    closing: float = 0.02,
    initial: float = 2.5,
    temperature: float = 0.83,
    sites: Sequence[str] = ("neuron", "modulation"),
    recompute: bool = False,
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> Masks:
    """Train the mask and binarise it.

    ``updates`` steps of Adam with learning rate ``rate`` on gate logits that start at ``initial``; ``batch`` pictures each,
    half of them concepts. ``closing`` is the price of all gates closed; ``sites`` are kinds of units ("neuron",
    "modulation", "head"); ``recompute`` trades a third forward pass for memory that does not grow with the steps.
    With ``scratch``, an interrupted call continues there and ends with the same mask. Raises ``OptionError``.
    """
    chosen = choose(model.sites(), sites)
    gates = Gates(chosen.values(), initial=initial, temperature=temperature, device=model.device)
    adam = torch.optim.Adam(gates.parameters(), lr=rate, betas=(0.9, 0.99))
    kept = Checkpoints(scratch, gates, adam)
    scale = torch.tensor([task.distance[c.name] for c in task.concepts], device=model.device)
    for update in range(kept.resume(), updates):
        if progress:
            progress("train the mask", update, updates)
        for group in adam.param_groups:
            group["lr"] = rate * min(1.0, 2 * (updates - update) / updates)
        erase, retain = _step(model, task, _draw(task, batch, update), chosen, gates, adam, scale, (beta, closing, recompute), update)
        log.debug("update %d: erase %.3f retain %.4f closed %d", update, erase, retain, closed(gates.keep()))
        kept.save(update + 1)
    return Masks(gates.keep())


def closed(keep: dict[str, Tensor]) -> int:
    return sum(int((~k).sum()) for k in keep.values())


def _draw(task: TrainingTask, batch: int, update: int) -> Batch:
    """Prompts and fresh noise seeds of one update, a function of the task's seed and the update's number alone."""
    random = torch.Generator().manual_seed(task.seed * 100_003 + update)

    def pick(n: int, among: int) -> Iterator[int]:
        while n > 0:
            order = torch.randperm(among, generator=random)[:n].tolist()
            yield from order
            n -= len(order)

    share = max(1, batch // 2 // len(task.concepts))
    texts, targets, owners = [], [], []
    for owner, concept in enumerate(task.concepts):
        for i in pick(share, len(task.pairs[concept.name])):
            pair = task.pairs[concept.name][i]
            texts.append(pair.prompt.text)
            targets.append(pair.anchor)
            owners.append(owner)
    retain = [task.retain[i].text for i in pick(max(1, batch - len(texts)), len(task.retain))]
    seeds = torch.randint(0, 2**31, (len(texts) + len(retain),), generator=random).tolist()
    return Batch(texts + retain, targets + retain, owners, seeds)


def _step(
    model: Flux1, task: TrainingTask, batch: Batch, sites: dict[str, Site], gates: Gates, adam: torch.optim.Adam, scale: Tensor,
    weights: tuple[float, float, bool], update: int,
) -> tuple[float, float]:  # fmt: skip
    beta, closing, recompute = weights
    noise = model.noise(batch.seeds)
    target = model.sample(noise, task.embed(batch.targets), steps=task.steps)
    sample = gates.sample(torch.Generator().manual_seed(task.seed * 100_019 + update))
    adam.zero_grad(set_to_none=True)
    with gated(model.transformer, sites, sample):
        error = (rollout(model, noise, task.embed(batch.texts), steps=task.steps, recompute=recompute) - target).square().mean((1, 2))
        n = len(batch.owners)
        owners = torch.tensor(batch.owners, device=error.device)
        erase = (error[:n] / scale[owners]).mean()
        retain = error[n:].mean() / scale.mean()
        (erase + beta * retain + closing * (1 - gates.expected_open())).backward()  # type: ignore[no-untyped-call]
    adam.step()
    return erase.item(), retain.item()
