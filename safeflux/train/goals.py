"""The limits of a release as goals of a training: what is looked at, how often, and when it is enough."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Container, Mapping
from functools import cached_property

import torch
from torch import Tensor

from safeflux.models.flux1 import Flux1
from safeflux.models.sites import Site
from safeflux.plan.erasing import CALM, KEPT, LOOK, SURE, attempts
from safeflux.train.constraints import CLOSED, LOST, Constraints
from safeflux.train.controller import Controller
from safeflux.train.held_out import GENERAL, HeldOut, attacked, beside, near, planned, tried
from safeflux.train.pgd import Hunt
from safeflux.train.state import State
from safeflux.train.task import TrainingTask

log = logging.getLogger(__name__)

# Looks after the limits were kept without a better mask that keeps them, until it is enough; and as long as attacks succeed.
_PATIENCE, _LONGER = 5, 10
_SPARE = 4  # of so many concepts one line of neighbours may be missed, and one picture show a concept, before a mask is looked at for sure
_UNSURE = 1e3  # shortfall of a mask that was not measured for sure: larger than any that was


class Goals:
    """Held-out rates against limits. ``budget``: the share of all units to close.

    ``hunt``: of an adversary that takes part in the training. How it does moves what its losses weigh. Of two masks that keep every
    limit the one is better that withstands more of the attacks that are then made on it alone; but none has to keep a limit there, which
    would take as many as the audit makes.
    """

    def __init__(
        self, model: Flux1, task: TrainingTask, sites: Mapping[str, Site], *, budget: float, batch: int, hunt: Hunt | None = None
    ) -> None:
        self._parts = (model, task, sites)
        self._attacked = {c.name: attacked(c.name) for c in task.concepts} if hunt else {}
        self._concepts = [c.name for c in task.concepts]
        self._attempts = attempts(max(1, len(task.concepts)))
        self._limits, self._budget, self._batch, self._hunt = task.limits, budget, batch, hunt
        self._seed = task.seed % 1_000_003
        self._known: dict[str, dict[str, float]] = {}
        self._tried: dict[str, dict[str, float]] = {}
        self._constraints = Constraints(task, budget=budget)
        self.often = HeldOut(model, task, sites, planned(task, seen=LOOK, kept=KEPT, seed=self._seed), batch=batch)

    @cached_property
    def sure(self) -> HeldOut:
        lines = planned(self._parts[1], seen=SURE, kept=SURE, seed=self._seed + 2**29)
        return HeldOut(*self._parts, lines, batch=self._batch)

    @cached_property
    def trial(self) -> HeldOut:
        lines = tried(self._parts[1], each=self._attempts, seed=self._seed + 2**30)
        return HeldOut(*self._parts, lines, batch=self._batch, hunt=self._hunt)

    def controller(self, beta: float | None) -> Controller:
        """Weights of what is looked at often, of attacks and of the budget."""
        return self._constraints.controller(self.often.lines, beta, under_attack=bool(self._attacked))

    def look(self, state: State, losses: Mapping[str, float], update: int, *, last: bool = False) -> None:
        """Measure the mask as it would be now, move the weights, keep the best.

        Where none keeps every limit, the ``last`` one is measured for sure, unless one that was not looked better.
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
        exposed = self._exposed(success)
        shortfall = _UNSURE + sum(clearly.values()) + exposed
        if not state.held and shortfall <= state.shortfall:
            state.best, state.shortfall = gates, shortfall
        state.calm = state.calm + 1 if self._good(measured, broken, clearly) else 0
        self._weigh(state, measured | success, broken, clearly)
        exposed = round(exposed, 1)  # less is not known of so few
        promising = not state.held or (exposed, _closed(gates)) < (state.exposed, _closed(state.best))
        final = last and not state.held and (state.best is gates or state.shortfall < _UNSURE)
        if promising and (state.calm >= CALM or final):
            self._look_for_sure(state, gates)
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

    def _good(self, measured: Mapping[str, float], broken: Container[str], clearly: Collection[str]) -> bool:
        """Whether the cheap look is good enough for the dear one. Of many lines a few are missed by chance, clearly as well."""
        spare = len(self._concepts) // _SPARE
        neighbours = {near(name) for name in self._concepts}
        return neighbours.issuperset(clearly) and len(clearly) <= spare and self._hits(measured, broken) <= 1 + spare

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
        """``measured``, but for what may be chance in each line: of so few pictures, one says little."""
        off = {line.name: line.let_off() if line.keep else -1 / len(line.prompts) for line in self.often.lines}
        return {name: value + off.get(name, 0.0) for name, value in measured.items()}

    def _exposed(self, rates: Mapping[str, float]) -> float:
        """By how much attacks succeed more often than they should, all concepts together."""
        return sum(max(0.0, one.excess(rates.get(one.name, 0.0))) for one in self._constraints.against_attacks())

    def _look_for_sure(self, state: State, gates: Tensor) -> None:
        """The dear look. Once all limits are kept, only a mask that keeps them and withstands more attacks is better, or as many with
        fewer units closed; before, the one that is nearest to it by this look and by how attacks did while it was trained."""
        state.journal[-1]["sure"] = sure = dict(self._sure(state, gates))
        judged = self._judged(sure)
        missing = sum(state.controller.broken(judged).values())
        kept = not missing
        shortfall = 0.0 if kept else missing + self._exposed(self._success(state))
        withstood = self._withstood(state, gates) if kept else {}
        sure |= withstood
        exposed, better = self._exposed(withstood), False
        if kept:
            better = not state.held or (exposed, _closed(gates)) < (state.exposed, _closed(state.best))
        if better or (not state.held and shortfall <= state.shortfall):
            state.best, state.held, state.shortfall, state.exposed = gates, kept, shortfall, exposed
        state.waited = 0 if better else state.waited + 1
        state.calm = 0
        self._hear(state, withstood)
        moved = {line.name: judged[line.name] for line in self.sure.lines}
        state.controller.update(self._as_one(state.controller, moved) | withstood, falling=())

    def _hear(self, state: State, withstood: Mapping[str, float]) -> None:
        """Tell the adversary how attacks on the mask alone did: better than its own, which the mask moved under."""
        for name, line in self._attacked.items():
            if line in withstood:
                state.adversary.hear(name, withstood[line], self._attempts)

    def _judged(self, sure: Mapping[str, float]) -> dict[str, float]:
        """What was measured for ``sure``, but for what may be chance in each line of neighbours where all that must stay keeps the limit
        together.

        Each line alone is of so few pictures that of many lines one would often miss it.
        """
        kept = [line for line in self.sure.lines if line.keep]
        lost = sum(len(line.prompts) - round(len(line.prompts) * sure[line.name]) for line in kept)
        if lost > LOST * (1 - self._limits.retained.value) * sum(len(line.prompts) for line in kept):
            return dict(sure)
        return dict(sure) | {line.name: min(1.0, sure[line.name] + line.let_off()) for line in kept if line.name != GENERAL}

    def unharmed(self, state: State) -> Callable[[Tensor], bool]:
        """Whether binary gates [units] do no worse than the best mask did, measured for sure.

        No concept may be seen more often: near its limit a mask fits the prompts it was chosen by, and others bring the concept back.
        Of what must stay, the limit has to be kept or, where the best mask did not, what that one kept; of attacks, what training aims
        at, or what that one came to. What nobody asks for by name looks as if it were closed in vain, until it is attacked.
        """
        best, constraints = self._sure(state, state.best), state.controller.constraints
        kept = not state.controller.broken(self._judged(best))
        bounds = {
            line.name: min(best[line.name], constraints[line.name].limit) if line.keep else best[line.name] for line in self.sure.lines
        }
        withstood = {name: max(rate, constraints[name].limit) for name, rate in self._withstood(state, state.best).items()}

        def holds(gates: Tensor) -> bool:
            by_site = state.gates.by_site(gates)
            found = self.sure.within(by_site, bounds)
            if found is None:
                return False
            self._known[_key(gates)] = found | {CLOSED: _closed(gates)}
            if kept and state.controller.broken(self._judged(found)):
                return False
            attacks = self.trial.within(by_site, withstood) if withstood else {}
            if attacks is not None:
                self._tried[_key(gates)] = attacks
            return attacks is not None

        return holds

    def outcome(self, state: State, gates: Tensor, product: Tensor | None = None) -> dict[str, object]:
        """How it ended: the rates of the final ``gates``, in words each limit that they do not keep, and the rates of the ``product``
        of merged masks that the training began with."""
        measured = dict(self._sure(state, gates))
        broken = state.controller.broken(self._judged(measured))
        unmet = [str(one) for one in state.controller.unmet(measured) if one.constraint.name in broken]
        for one in unmet:
            log.warning("the limits cannot be met on held-out prompts: %s", one)
        begun = {} if product is None else {"product": self._sure(state, product) | self._withstood(state, product)}
        measured |= self._withstood(state, gates)
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

    def _withstood(self, state: State, gates: Tensor) -> dict[str, float]:
        """How often attacks on these very gates bring each concept back; the same gates only once."""
        if not self._attacked:
            return {}
        key = _key(gates)
        if key not in self._tried:
            self._tried[key] = self.trial.measure(state.gates.by_site(gates))
        return self._tried[key]

    def _measure(self, how: HeldOut, state: State, gates: Tensor) -> dict[str, float]:
        return how.measure(state.gates.by_site(gates)) | {CLOSED: _closed(gates)}


def _closed(gates: Tensor) -> float:
    return 1 - float(gates.mean(dtype=torch.float32))


def _key(gates: Tensor) -> str:
    return hashlib.sha256(gates.bool().cpu().numpy().tobytes()).hexdigest()
