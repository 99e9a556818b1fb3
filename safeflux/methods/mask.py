"""Minimalist concept erasure: one binary mask for all concepts, trained on final outputs through every denoising step.

Zhang et al., *Minimalist Concept Erasure in Generative Models*, ICML 2025, arXiv 2507.13386:

    L = mean over concepts of |F(x_T, anchor) - F_mask(x_T, concept)|^2  +  beta |F(x_T, c) - F_mask(x_T, c)|^2

Both terms are divided by what the base model itself has there between concept and anchor, so a weight means the same for every
model and concept. What the paper leaves to be tuned is found here. The weights of the terms, ``beta`` among them, and the number
of updates follow from the release's limits (``train.controller``, ``train.held_out``); the number of units from a budget, and from
giving back in the end whatever was taken in vain (``train.selection``). An adversary moves the prompts' embeddings while the mask
learns (``train.adversary``). Unlike in the authors' released code there is one gate sample for a whole rollout and its
recomputation, one backward pass, all concepts are learnt at once, and noise is fresh in every update.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from safeflux.files import write_atomic
from safeflux.models.flux1 import Flux1
from safeflux.models.sites import Site, choose, gated
from safeflux.plan.erasing import EVERY, LENGTH, STEPS, pictures
from safeflux.train.adversary import Adversary, Attack
from safeflux.train.batches import Batch, draw
from safeflux.train.checkpoints import Checkpoints
from safeflux.train.conflict import without_conflict
from safeflux.train.constraints import CLOSED
from safeflux.train.controller import Controller
from safeflux.train.gates import Gates
from safeflux.train.goals import Goals
from safeflux.train.held_out import attacked, groups
from safeflux.train.mining import Mining, lost
from safeflux.train.pgd import Hunt
from safeflux.train.rollout import rollout, shared
from safeflux.train.selection import reopen
from safeflux.train.start import favour
from safeflux.train.state import State
from safeflux.train.task import TrainingTask
from safeflux.types import JOURNAL, Masks, Progress, TextCond

_STEEPEST = 10.0  # gradient of one gate, in units of the root mean square over all
_ANNEALED = 50  # updates until noise and temperature are at their ends
_SWIFT = 70  # updates at the whole learning rate; after them it falls with their number, so that the mask comes to rest
_WEIGHED = 4  # batches on which it is weighed which units to reopen first
_BEGUN = -1.0  # logit of what a merged release had closed: closed, but near enough to the threshold to come back


@dataclass(frozen=True)
class Setup:
    """What stays the same in every update. ``scale``: squared distance of concept and anchor, by concept."""

    model: Flux1
    task: TrainingTask
    sites: dict[str, Site]
    scale: list[float]
    batch: int
    budget: float
    rate: float
    surgery: bool
    recompute: bool
    progress: Progress


def mask(
    model: Flux1,
    task: TrainingTask,
    *,
    updates: int = 300,
    batch: int | None = None,
    beta: float | None = None,
    budget: float = 0.05,
    rate: float = 0.25,
    radius: float = 0.1,
    surgery: bool = True,
    start: Literal["even", "wanda"] = "even",
    sites: Sequence[str] = ("neuron", "modulation"),
    recompute: bool = False,
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> Masks:
    """Train the mask until held-out pictures keep the limits, binarise it, and reopen what need not be closed.

    At most ``updates`` steps of momentum with ``batch`` pictures (20, or more for many concepts), half of them concepts, and learning rate
    ``rate`` times the root of the concepts' number: each of many has its gradient in fewer of the gates. ``beta`` fixes the weight of
    what must stay, instead of letting the limits decide. ``budget``: the share of all units to aim at; training goes on for it a
    while after every limit is kept. ``radius`` of the adversary's ball, 0 for none; ``surgery``: erase gradients lose what points
    against what must stay; ``start``: which gates begin near their threshold. ``sites``: see ``models.sites.choose``; those of earlier
    releases' masks come with them. ``recompute`` trades a third forward pass for memory that does not grow with the steps. Where
    releases are merged, it starts from the product of their masks and may reopen what it can do without. With ``scratch``, an
    interrupted call continues there and ends with the same mask, and ``journal.json`` there tells how it went, limits that were not
    met included.
    Raises ``OptionError`` for unknown sites, ``StageError`` where nothing can be measured.
    """
    chosen = choose(model.sites(), sites) | {name: model.sites()[name] for name in (*task.shut, *task.begun)}
    if not task.concepts:
        return Masks({name: ~task.shut.get(name, torch.zeros(site.units, dtype=torch.bool)).cpu() for name, site in chosen.items()})
    scale = [task.distance[c.name] for c in task.concepts]
    batch, rate = batch or pictures(len(task.concepts)), rate * math.sqrt(len(task.concepts))
    setup = Setup(model, task, chosen, scale, batch, budget, rate, surgery, recompute, progress or _silent)
    hunt = Hunt(radius, STEPS, LENGTH, restarts=1, recompute=recompute) if radius else None
    goals = Goals(model, task, chosen, budget=budget, batch=batch, hunt=hunt)
    state = _begin(setup, goals.controller(beta), radius)
    kept = Checkpoints(scratch, {"logits": state.gates.logits}, state.tool)
    if not (done := state.resume(kept)) and start == "wanda" and not task.begun:
        favour(state.gates, model, task, chosen, share=2 * budget, batch=batch)
    _train(setup, goals, state, kept, range(done, updates))
    final = _selected(setup, goals, state, updates)
    if scratch is not None:
        told = goals.outcome(state, final, (~state.gates.closing(task.begun)).float() if task.begun else None)
        write_atomic(scratch / JOURNAL, json.dumps(told, indent=1, sort_keys=True))
    return Masks({name: gate.bool().cpu() for name, gate in state.gates.by_site(final).items()})


def _train(setup: Setup, goals: Goals, state: State, kept: Checkpoints, updates: range) -> None:
    """Until every goal is met for sure, or there are no more ``updates``; looked at and kept every few of them, merged masks at once."""
    if setup.task.begun and updates.start == 0:
        goals.look(state, {}, 0)
    for update in updates:
        if state.met:
            return
        setup.progress("train the mask", update, updates.stop)
        state.gates.anneal(1.0 if setup.task.begun else min(1.0, update / _ANNEALED))
        state.tool.param_groups[0]["lr"] = setup.rate * min(1.0, _SWIFT / (update + 1))
        losses = _update(setup, state, _drawn(setup, state, update), update)
        if (update + 1) % EVERY == 0 or update + 1 == updates.stop:
            goals.look(state, losses, update + 1, last=update + 1 == updates.stop)
            state.save(kept, update + 1)


def _selected(setup: Setup, goals: Goals, state: State, update: int) -> Tensor:
    """The best mask without the units that it closes in vain: binary gates [units]."""
    setup.progress("reopen what need not be closed", 0, 1)
    cost = torch.stack([_cost_of_opening(setup, state, _drawn(setup, state, update + i)) for i in range(_WEIGHED)]).mean(0)
    return reopen(state.best, cost, state.gates.shut, goals.unharmed(state))


def _drawn(setup: Setup, state: State, update: int) -> Batch:
    return draw(setup.task, setup.batch, update, state.mining, state.controller.weights, adversary=state.adversary.radius > 0)


def _silent(what: str, done: int, total: int) -> None:
    pass


def _begin(setup: Setup, controller: Controller, radius: float) -> State:
    gates = Gates(setup.sites.values(), device=setup.model.device)
    gates.shut = gates.closing(setup.task.shut)
    gates.begin(gates.closing(setup.task.begun), _BEGUN)
    tool = torch.optim.SGD([gates.logits], lr=setup.rate, momentum=0.9, dampening=0.9)
    adversary = Adversary(radius, setup.model, setup.task, setup.sites, recompute=setup.recompute)
    return State(gates, tool, controller, Mining(len(setup.task.retain)), adversary, gates.hard())


def _update(setup: Setup, state: State, batch: Batch, update: int) -> dict[str, float]:
    """One step on the weighted losses; returns them, unweighted, by name.

    The gradient is scaled by its root mean square over all gates. Adam would scale each gate's by its own, so that gates which hardly
    matter move as fast as those that do, and close.
    """
    gates, weights = state.gates, state.controller.weights
    attacks = state.adversary.step(gates.by_site(gates.hard()), batch.attacked)
    gate = gates.sample(torch.Generator().manual_seed(setup.task.seed * 100_019 + update))
    erase, retain, losses = _gradients(setup, state, batch, attacks, gate.detach())
    gates.logits.grad = None
    parts = without_conflict(erase, retain) if setup.surgery else erase
    gate.backward(torch.stack([*parts, retain]).sum(0))  # type: ignore[no-untyped-call]
    (weights[CLOSED] * gates.expected_closed() / setup.budget).backward()  # type: ignore[no-untyped-call]
    assert gates.logits.grad is not None
    gates.logits.grad.div_(gates.logits.grad.square().mean().sqrt().clamp(min=1e-20)).clamp_(-_STEEPEST, _STEEPEST)
    state.tool.step()
    gates.settle(update + 1)
    return losses


def _gradients(
    setup: Setup, state: State, batch: Batch, attacks: Sequence[Attack], mask: Tensor
) -> tuple[list[Tensor], Tensor, dict[str, float]]:
    """Of each concept's weighted losses, and of those of all that must stay, the gradient with respect to ``mask`` [units]; the losses.

    All pictures are drawn in one rollout: concepts as people type them, what must stay, and concepts under ``attacks``. Each concept's
    pictures have a copy of the gates of their own, and so have the others: one backward pass tells their gradients apart.
    """
    model, task, weights = setup.model, setup.task, state.controller.weights
    kept = [task.retain[i] for i in batch.retain]
    n, end, none = len(batch.pairs), len(batch.seeds), len(task.concepts)
    others = [prompt.text for prompt in kept]
    x_T, cond = model.noise(batch.seeds), task.embed([pair.prompt.text for pair in batch.pairs] + others)
    target = model.sample(x_T, task.embed([pair.anchor for pair in batch.pairs] + others), steps=task.steps)
    if attacks:
        x_T = torch.cat([x_T, model.noise([attack.seed for attack in attacks])])
        cond = TextCond.cat([cond, state.adversary.prompts(attacks)])
        target = torch.cat([target, *(attack.anchor for attack in attacks)])
    owners = [*batch.owners, *(none for _ in kept), *(attack.owner for attack in attacks)]
    copies = mask.expand(none + 1, -1).clone().requires_grad_()
    with gated(model.transformer, setup.sites, state.gates.by_site(shared(copies, owners))):
        final = rollout(model, x_T, cond, steps=task.steps, recompute=setup.recompute)
        error = _error(final, target)
        usable = torch.cat([_clean(setup, batch, target[:n]), error.new_zeros(len(kept)), error.new_ones(len(attacks))])
        erase = _erase(setup, error, usable, owners, end)
        drift = error[n:end] / (sum(setup.scale) / len(setup.scale))
        retain = {name: drift[at].mean() for name, at in groups(task, kept).items()}
        parts = [weights.get(name, 1.0) * part for name, part in {**erase, **retain}.items()]
        (each,) = torch.autograd.grad(torch.stack(parts).sum(), [copies])
    assert task.shows is not None
    state.mining.learn(batch.retain, drift.detach(), lost(model, task.shows, kept, final[n:end].detach(), target[n:end]))
    return [g / none for g in each[:-1]], each[-1], {name: part.item() for name, part in {**erase, **retain}.items()}


def _error(final: Tensor, target: Tensor) -> Tensor:
    """|F_mask(x_T, c) - target|^2 of each picture [B]: the mean over all numbers of the final latents."""
    return (final - target).square().mean((1, 2))


def _erase(setup: Setup, error: Tensor, usable: Tensor, owners: Sequence[int], end: int) -> dict[str, Tensor]:
    """|F(x_T, anchor) - F_mask(x_T, concept)|^2 of each concept, over its pictures [B] that are ``usable``; from ``end`` on, under attack.

    It falls into the losses of prompts as they are and of prompts under attack, by the names that their limits have; each counts by its
    share of the concept's pictures.
    """
    found: dict[str, Tensor] = {}
    for owner, (concept, scale) in enumerate(zip(setup.task.concepts, setup.scale, strict=True)):
        rows = [row for row, its in enumerate(owners) if its == owner]
        whole = scale * usable[rows].sum().clamp(min=1)
        for name, some in ((concept.name, [r for r in rows if r < end]), (attacked(concept.name), [r for r in rows if r >= end])):
            if some:
                found[name] = (usable[some] * error[some]).sum() / whole
    return found


def _clean(setup: Setup, batch: Batch, anchors: Tensor) -> Tensor:
    """1 for each anchor picture that may teach, 0 for one that shows the concept itself: [B]. A neutral prompt draws it now and then."""
    assert setup.task.shows is not None
    shown = setup.task.shows([pair.prompt for pair in batch.pairs], setup.model.decode(anchors))
    return torch.from_numpy(~shown).to(anchors.device, anchors.dtype)


def _cost_of_opening(setup: Setup, state: State, batch: Batch) -> Tensor:
    """What the weighted loss would rise by, to first order, if a unit of the best mask were open [units]."""
    attacks = state.adversary.step(state.gates.by_site(state.best), batch.attacked)
    erase, retain, _ = _gradients(setup, state, batch, attacks, state.best)
    return torch.stack([*erase, retain]).sum(0)
