"""The limits of a release as goals of a training: what is looked at, how often, and when it is enough."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from safeflux.models.flux1 import Flux1
from safeflux.models.sites import Site
from safeflux.plan.erasing import KEPT, LOOK, SURE
from safeflux.train.adversary import attacked as attacked_line
from safeflux.train.controller import Constraint, Controller
from safeflux.train.held_out import GENERAL, HeldOut, Line, beside, near
from safeflux.train.state import State
from safeflux.train.task import TrainingTask

log = logging.getLogger(__name__)

CLOSED = "units closed"
_GAIN, _SWIFT = 0.2, 1.0  # of the controller
_SHOWN, _SCALE = 0.2, 0.05  # so large an excess, of a rate that has to be low or high, moves its weight by the whole gain
# How much of what the limits allow training may use up: of concepts seen alone, and beside other things, and of what must stay lost.
_SEEN, _BESIDE, _LOST = 0.2, 0.6, 0.25
# Weights of a concept, and of attacks on it, at first, at least and at most, were it one of so many: what counts is the mean over all.
_WEIGHT, _ATTACKED, _LEAST, _MOST, _AMONG = 1.5, 4.0, 1.0, 10.0, 3
_CALMER = 0.5  # part of the gain by which the weight of a concept that is not seen falls
# Looks after the limits were kept without a better mask that keeps them, until it is enough; and as long as attacks succeed.
_PATIENCE, _LONGER = 5, 10
_UNSURE = 1e3  # shortfall of a mask that was not measured for sure: larger than any that was
_CALM = 2  # looks in a row that must be good before the dear one is taken
_KEEP, _NEAR = 8.0, 0.6  # what all that must stay weighs at first, and how much of that neighbours do
_PRICE, _DEAREST = 1.0, 2.0  # of closing the whole budget: at first and at least, and at most


class Goals:
    """Held-out rates against limits, with room for the confidence that the audit demands. ``budget``: the share of all units to close.

    ``attacked``: whether an adversary takes part. How it does moves what its losses weigh, and tells which of two masks that keep every
    limit is better; but no mask is measured for sure by attacks on it, which would take as many as the audit makes.
    """

    def __init__(self, model: Flux1, task: TrainingTask, sites: Mapping[str, Site], *, budget: float, batch: int, attacked: bool) -> None:
        self._parts = (model, task, sites)
        self._attacked = {c.name: attacked_line(c.name) for c in task.concepts} if attacked else {}
        self._concepts = [c.name for c in task.concepts]
        self._many = len(task.concepts) / _AMONG
        self._limits, self._budget, self._batch = task.limits, budget, batch
        self._seed = task.seed % 1_000_003
        self._known: dict[str, dict[str, float]] = {}
        self.often = HeldOut(model, task, sites, seen=LOOK, kept=KEPT, seed=self._seed, batch=batch)

    @cached_property
    def sure(self) -> HeldOut:
        return HeldOut(*self._parts, seen=SURE, kept=SURE, seed=self._seed + 2**29, batch=self._batch)

    def controller(self, beta: float | None) -> Controller:
        """One constraint a line, one a concept under attack, and one for the budget. ``beta`` fixes what all that must stay weighs."""
        kept = [line.name for line in self.often.lines if line.keep]
        neighbours = len(kept) - (GENERAL in kept)
        whole = _KEEP if beta is None else beta
        general = whole * (1 - _NEAR) if neighbours else whole
        part = whole - (general if GENERAL in kept else 0.0)
        found = [self._constraint(line, general if line.name == GENERAL else part / max(1, neighbours)) for line in self.often.lines]
        found += self._against_attacks
        fixed = () if beta is None else tuple(line.name for line in self.often.lines if line.keep)
        price = Constraint(CLOSED, self._budget, scale=self._budget, relax=0.6, start=_PRICE, least=_PRICE, most=_DEAREST, aim=True)
        return Controller([*found, price], gain=_GAIN, swift=_SWIFT, fixed=fixed)

    @cached_property
    def _against_attacks(self) -> list[Constraint]:
        """What no update may decide alone: each rate is one of few pictures."""
        limit = self._limits.attack_success.value
        start = _ATTACKED * self._many
        return [replace(self._against(name, limit), start=start, relax=1.0, urged=False) for name in self._attacked.values()]

    def _against(self, name: str, limit: float) -> Constraint:
        """What must not be seen."""
        start, least, most = (weight * self._many for weight in (_WEIGHT, _LEAST, _MOST))
        return Constraint(name, limit, scale=_SHOWN, relax=_CALMER, start=start, least=least, most=most)

    def _constraint(self, line: Line, start: float) -> Constraint:
        if line.keep:
            limit = 1 - _LOST * (1 - self._limits.retained.value)
            return Constraint(line.name, limit, floor=True, scale=_SCALE, relax=0.05, start=start)
        alone = line.name in self._concepts
        return self._against(line.name, _SEEN * self._limits.detection.value if alone else _BESIDE * self._limits.attack_success.value)

    def look(self, state: State, losses: Mapping[str, float], update: int) -> None:
        """Measure the mask as it would be now, move the weights, keep the best.

        ``state.met`` when every limit is kept for sure, attacks fail and the mask is within the budget, or when no better one has been
        found for long.
        """
        gates = state.gates.hard()
        measured, success = self._measure(self.often, state, gates), self._success(state)
        unused = {beside(name) for name in self._concepts}  # they move their concepts' weights
        weights = {name: weight for name, weight in state.controller.weights.items() if name not in unused}
        row = {"update": update, "losses": dict(losses), "weights": weights, "rates": measured | success}
        state.journal.append(row)
        log.debug("update %d: %s", update, row)
        broken, clearly = state.controller.broken(measured), state.controller.broken(self._lenient(measured))
        shortfall = _UNSURE + sum(broken.values())
        if not state.held and shortfall <= state.shortfall:
            state.best, state.shortfall = gates, shortfall
        state.calm = 0 if clearly or self._hits(measured, broken) > 1 else state.calm + 1
        self._weigh(state, measured | success, broken, clearly)
        exposed = self._exposed(success)
        if state.calm >= _CALM and (not state.held or (exposed, _closed(gates)) < (state.exposed, _closed(state.best))):
            self._look_for_sure(state, gates, exposed)
        elif state.held and exposed >= state.exposed:  # else something better is on its way
            state.waited += 1
        enough = not state.exposed and _closed(state.best) <= self._budget
        state.met = state.held and (enough or state.waited >= (_LONGER if state.exposed else _PATIENCE))

    def _weigh(self, state: State, measured: Mapping[str, float], broken: Container[str], clearly: Container[str]) -> None:
        """Move the weights. Closing grows dearer only once every limit was kept for sure, and while they are and attacks fail; from then
        on, what keeps them weighs no less. Before, a concept weighs less only where what must stay is lost, of its neighbours or in
        general, but attacks on it wherever they fail.
        """
        kept = [line.name for line in self.often.lines if line.keep]
        costly = [name for name in self._concepts if near(name) in broken or GENERAL in clearly]
        falling = [CLOSED, *([] if state.held else [*kept, *costly, *self._attacked.values()])]
        moved = self._as_one(state.controller, measured)
        if not (state.held and state.calm) or self._exposed(measured):
            moved[CLOSED] = 0.0
        state.controller.update(moved, falling=falling)

    def _hits(self, measured: Mapping[str, float], broken: Container[str]) -> int:
        """In how many pictures of all the lines that are ``broken`` a concept is seen."""
        return sum(round(measured[line.name] * len(line.prompts)) for line in self.often.lines if not line.keep and line.name in broken)

    def _as_one(self, controller: Controller, measured: Mapping[str, float]) -> dict[str, float]:
        """``measured``, but a concept, which has one weight, by the worse kept of its two limits: alone, and beside other things."""
        moved = dict(measured)
        for name in self._concepts:
            alone, others = (controller.constraints.get(line) for line in (name, beside(name)))
            if alone and others:
                moved[name] = alone.limit + max(alone.excess(moved[name]), others.excess(moved.pop(others.name)))
        return moved

    def _lenient(self, measured: Mapping[str, float]) -> dict[str, float]:
        """``measured``, but for one picture of each line: of so few, one says little."""
        one = {line.name: (1 if line.keep else -1) / len(line.prompts) for line in self.often.lines}
        return {name: value + one.get(name, 0.0) for name, value in measured.items()}

    def _exposed(self, rates: Mapping[str, float]) -> float:
        """By how much attacks succeed more often than they may, all concepts together, in tenths: less is not known of so few."""
        return round(sum(max(0.0, one.excess(rates[one.name])) for one in self._against_attacks), 1)

    def _look_for_sure(self, state: State, gates: Tensor, exposed: float) -> None:
        """The dear look. Once all limits are kept, only a mask that keeps them and withstands more attacks is better, or as many with
        fewer units closed; before, the one that is nearest to it by this look."""
        state.journal[-1]["sure"] = sure = self._sure(state, gates)
        judged = self._judged(sure)
        missing = sum(state.controller.broken(judged).values())
        kept = not missing
        if kept or (not state.held and missing <= state.shortfall):
            state.best, state.held, state.shortfall, state.exposed = gates, kept, missing, exposed
        state.waited = 0 if kept else state.waited + 1
        state.calm = _CALM - 1
        state.controller.update(self._as_one(state.controller, {line.name: judged[line.name] for line in self.sure.lines}), falling=())

    def _judged(self, sure: Mapping[str, float]) -> dict[str, float]:
        """What was measured for ``sure``, but for one picture of each line of neighbours where all that must stay keeps the limit together.

        Each line alone is of so few pictures that of many lines one would often miss it by chance.
        """
        pictures = {line.name: len(line.prompts) for line in self.sure.lines if line.keep}
        lost = sum(n - round(n * sure[name]) for name, n in pictures.items())
        if lost > _LOST * (1 - self._limits.retained.value) * sum(pictures.values()):
            return dict(sure)
        return dict(sure) | {name: min(1.0, sure[name] + 1 / n) for name, n in pictures.items() if name != GENERAL}

    def unharmed(self, state: State) -> Callable[[Tensor], bool]:
        """Whether binary gates [units] do no worse than the best mask did, measured for sure.

        No concept may be seen more often: near its limit a mask fits the prompts it was chosen by, and others bring the concept back.
        Of what must stay, the limit has to be kept or, where the best mask did not, what that one kept.
        """
        best, constraints = self._sure(state, state.best), state.controller.constraints
        kept = not state.controller.broken(self._judged(best))
        bounds = {
            line.name: min(best[line.name], constraints[line.name].limit) if line.keep else best[line.name] for line in self.sure.lines
        }

        def holds(gates: Tensor) -> bool:
            found = self.sure.within(state.gates.by_site(gates), bounds)
            if found is None:
                return False
            self._known[_key(gates)] = found | {CLOSED: _closed(gates)}
            return not (kept and state.controller.broken(self._judged(found)))

        return holds

    def outcome(self, state: State, gates: Tensor, product: Tensor | None = None) -> dict[str, object]:
        """How it ended: the rates of the final ``gates``, in words each limit that they do not keep, and the rates of the ``product``
        of merged masks that the training began with."""
        measured = self._sure(state, gates)
        broken = state.controller.broken(self._judged(measured))
        unmet = [str(one) for one in state.controller.unmet(measured) if one.constraint.name in broken]
        for one in unmet:
            log.warning("the limits cannot be met on held-out prompts: %s", one)
        begun = {} if product is None else {"product": self._sure(state, product)}
        return {"rates": measured, "unmet": unmet, "journal": state.journal, **begun}

    def _success(self, state: State) -> dict[str, float]:
        """How often attacks brought each concept back in the latest updates."""
        return {line: state.adversary.success.get(name, 1.0) for name, line in self._attacked.items()}

    def _sure(self, state: State, gates: Tensor) -> dict[str, float]:
        """Measured for sure; the same gates, the dear measurement, only once."""
        key = _key(gates)
        if key not in self._known:
            self._known[key] = self._measure(self.sure, state, gates)
        return self._known[key]

    def _measure(self, how: HeldOut, state: State, gates: Tensor) -> dict[str, float]:
        return how.measure(state.gates.by_site(gates)) | {CLOSED: _closed(gates)}


def _closed(gates: Tensor) -> float:
    return 1 - float(gates.mean(dtype=torch.float32))


def _key(gates: Tensor) -> str:
    return hashlib.sha256(gates.bool().cpu().numpy().tobytes()).hexdigest()
