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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from safeflux.files import write_atomic
from safeflux.models.flux1 import Flux1
from safeflux.models.sites import Site, choose, gated
from safeflux.plan.erasing import EVERY
from safeflux.train import ball
from safeflux.train.adversary import Adversary
from safeflux.train.batches import Batch, draw
from safeflux.train.checkpoints import Checkpoints
from safeflux.train.conflict import without_conflict
from safeflux.train.controller import Controller
from safeflux.train.gates import Gates
from safeflux.train.goals import CLOSED, Goals
from safeflux.train.held_out import groups
from safeflux.train.mining import Mining
from safeflux.train.rollout import rollout
from safeflux.train.selection import reopen
from safeflux.train.start import favour
from safeflux.train.state import State
from safeflux.train.task import TrainingTask
from safeflux.types import JOURNAL, Masks, Progress, TextCond

_STEEPEST = 10.0  # gradient of one gate, in units of the root mean square over all
_ANNEALED = 50  # updates until noise and temperature are at their ends


@dataclass(frozen=True)
class Setup:
    """What stays the same in every update. ``scale``: squared distance of concept and anchor, by concept."""

    model: Flux1
    task: TrainingTask
    sites: dict[str, Site]
    scale: list[float]
    batch: int
    budget: float
    surgery: bool
    recompute: bool
    progress: Progress


def mask(
    model: Flux1,
    task: TrainingTask,
    *,
    updates: int = 200,
    batch: int = 40,
    beta: float | None = None,
    budget: float = 0.05,
    rate: float = 0.3,
    radius: float = 0.1,
    surgery: bool = True,
    start: Literal["even", "wanda"] = "even",
    sites: Sequence[str] = ("neuron", "modulation"),
    recompute: bool = False,
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> Masks:
    """Train the mask until held-out pictures keep the limits, binarise it, and reopen what need not be closed.

    At most ``updates`` steps of momentum with learning rate ``rate`` and ``batch`` pictures, half of them concepts. ``beta`` fixes the
    weight of what must stay, instead of letting the limits decide. ``budget``: the share of all units to aim at. ``radius`` of the
    adversary's ball, 0 for none; ``surgery``: erase gradients lose what points against what must stay; ``start``: which gates begin
    near their threshold. ``sites``: see ``models.sites.choose``; those of an earlier release's mask come with it. ``recompute``
    trades a third forward pass for memory that does not grow with the steps. With ``scratch``, an interrupted call continues there
    and ends with the same mask, and ``journal.json`` there tells how it went, limits that were not met included.
    Raises ``OptionError`` for unknown sites, ``StageError`` where nothing can be measured.
    """
    chosen = choose(model.sites(), sites) | {name: model.sites()[name] for name in task.shut}
    scale = [task.distance[c.name] for c in task.concepts]
    setup = Setup(model, task, chosen, scale, batch, budget, surgery, recompute, progress or _silent)
    goals = Goals(model, task, chosen, budget=budget, batch=batch)
    state = _begin(setup, goals.controller(beta), rate, radius)
    kept = Checkpoints(scratch, {"logits": state.gates.logits}, state.tool)
    if not (done := state.resume(kept)) and start == "wanda":
        favour(state.gates, model, task, chosen, share=2 * budget, batch=batch)
    _train(setup, goals, state, kept, range(done, updates))
    final = _selected(setup, goals, state, updates)
    if scratch is not None:
        write_atomic(scratch / JOURNAL, json.dumps(goals.outcome(state, final), indent=1, sort_keys=True))
    return Masks({name: gate.bool().cpu() for name, gate in state.gates.by_site(final).items()})


def _train(setup: Setup, goals: Goals, state: State, kept: Checkpoints, updates: range) -> None:
    """Until every goal is met for sure, or there are no more ``updates``; looked at and kept every few of them."""
    for update in updates:
        if state.met:
            return
        setup.progress("train the mask", update, updates.stop)
        state.gates.anneal(min(1.0, update / _ANNEALED))
        losses = _update(setup, state, draw(setup.task, setup.batch, update, state.mining), update)
        if (update + 1) % EVERY == 0 or update + 1 == updates.stop:
            goals.look(state, losses, update + 1)
            state.save(kept, update + 1)


def _selected(setup: Setup, goals: Goals, state: State, update: int) -> Tensor:
    """The best mask without the units that it closes in vain: binary gates [units]."""
    setup.progress("reopen what need not be closed", 0, 1)
    cost = _cost_of_opening(setup, state, draw(setup.task, setup.batch, update, state.mining))
    return reopen(state.best, cost, state.gates.shut, goals.unharmed(state))


def _silent(what: str, done: int, total: int) -> None:
    pass


def _begin(setup: Setup, controller: Controller, rate: float, radius: float) -> State:
    gates = Gates(setup.sites.values(), device=setup.model.device)
    open_ = {name: torch.zeros(units, dtype=torch.bool) for name, units in gates.units.items()}
    gates.shut = gates.flat(open_ | dict(setup.task.shut))
    tool = torch.optim.SGD([gates.logits], lr=rate, momentum=0.9, dampening=0.9)
    return State(gates, tool, controller, Mining(len(setup.task.retain)), Adversary(radius, setup.task.seed), gates.hard())


def _update(setup: Setup, state: State, batch: Batch, update: int) -> dict[str, float]:
    """One step on the weighted losses; returns them, unweighted, by name.

    The gradient is scaled by its root mean square over all gates. Adam would scale each gate's by its own, so that gates which hardly
    matter move as fast as those that do, and close.
    """
    gates, weights = state.gates, state.controller.weights
    gate = gates.sample(torch.Generator().manual_seed(setup.task.seed * 100_019 + update))
    mask = gate.detach().requires_grad_()
    erase, retain, losses = _gradients(setup, state, batch, mask)
    gates.logits.grad = None
    parts = without_conflict(erase, retain) if setup.surgery else erase
    gate.backward(torch.stack([*parts, retain]).sum(0))  # type: ignore[no-untyped-call]
    (weights[CLOSED] * gates.expected_closed() / setup.budget).backward()  # type: ignore[no-untyped-call]
    assert gates.logits.grad is not None
    gates.logits.grad.div_(gates.logits.grad.square().mean().sqrt().clamp(min=1e-20)).clamp_(-_STEEPEST, _STEEPEST)
    state.tool.step()
    gates.limit()
    return losses


def _gradients(setup: Setup, state: State, batch: Batch, mask: Tensor) -> tuple[list[Tensor], Tensor, dict[str, float]]:
    """Of each concept's weighted loss, and of that of all that must stay, the gradient with respect to ``mask`` [units]."""
    model, task, weights = setup.model, setup.task, state.controller.weights
    n, kept = len(batch.pairs), [task.retain[i] for i in batch.retain]
    x_T = model.noise(batch.seeds)
    target = model.sample(x_T, task.embed([pair.anchor for pair in batch.pairs] + [p.text for p in kept]), steps=task.steps)
    clean = _clean(setup, batch, target[:n])
    losses: dict[str, float] = {}
    erase: list[Tensor] = []
    with gated(model.transformer, setup.sites, state.gates.by_site(mask)):
        for owner, concept in enumerate(task.concepts):
            at = batch.of(owner)
            losses[concept.name], gradient = _erase(setup, state.adversary, batch, owner, (x_T[at], target[at], clean[at]), mask)
            erase.append(weights[concept.name] / len(task.concepts) * gradient)
        drift = _error(setup, x_T[n:], task.embed([p.text for p in kept]), target[n:]) / (sum(setup.scale) / len(setup.scale))
        parts = {name: drift[at].mean() for name, at in groups(task, kept).items()}
        (retain,) = torch.autograd.grad(torch.stack([weights.get(name, 1.0) * part for name, part in parts.items()]).sum(), [mask])
    state.mining.learn(batch.retain, drift.detach())
    return erase, retain, losses | {name: part.item() for name, part in parts.items()}


def _erase(
    setup: Setup, adversary: Adversary, batch: Batch, owner: int, rows: tuple[Tensor, Tensor, Tensor], mask: Tensor
) -> tuple[float, Tensor]:
    """One concept's |F(x_T, anchor) - F_mask(x_T, concept)|^2, half of it under the adversary, and its gradient. The adversary learns."""
    x_T, target, clean = rows
    texts = [pair.prompt.text for pair in batch.pairs[batch.of(owner)]]
    c = setup.task.embed(texts)
    delta = adversary.against(texts, c)
    error = _error(setup, x_T, ball.moved(c, delta), target) / setup.scale[owner]
    loss = (clean * error).sum() / clean.sum().clamp(min=1)
    gradient, sequence, pooled = torch.autograd.grad(loss, [mask, delta.sequence, delta.pooled])
    adversary.learn(texts, c, delta, TextCond(sequence, pooled))
    return loss.item(), gradient


def _error(setup: Setup, x_T: Tensor, c: TextCond, target: Tensor) -> Tensor:
    """|F_mask(x_T, c) - target|^2 of each picture [B]: the mean over all numbers of the final latents."""
    final = rollout(setup.model, x_T, c, steps=setup.task.steps, recompute=setup.recompute)
    return (final - target).square().mean((1, 2))


def _clean(setup: Setup, batch: Batch, anchors: Tensor) -> Tensor:
    """1 for each anchor picture that may teach, 0 for one that shows the concept itself: [B]. A neutral prompt draws it now and then."""
    assert setup.task.shows is not None
    shown = setup.task.shows([pair.prompt for pair in batch.pairs], setup.model.decode(anchors))
    return torch.from_numpy(~shown).to(anchors.device, anchors.dtype)


def _cost_of_opening(setup: Setup, state: State, batch: Batch) -> Tensor:
    """What the weighted loss would rise by, to first order, if a unit of the best mask were open [units]."""
    erase, retain, _ = _gradients(setup, state, batch, state.best.clone().requires_grad_())
    return torch.stack([*erase, retain]).sum(0)
