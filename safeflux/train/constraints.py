"""The limits of a release as constraints on a training: what each is, and what its loss weighs at first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from safeflux.train.controller import Constraint, Controller
from safeflux.train.held_out import GENERAL, Line, attacked
from safeflux.train.task import TrainingTask

CLOSED = "units closed"
LOST = 0.25  # how much of what must stay training may use up, of what the limits allow to be lost
_GAIN, _SWIFT = 0.2, 1.0  # of the controller
_SHOWN, _SCALE = 0.2, 0.05  # so large an excess, of a rate that has to be low or high, moves its weight by the whole gain
_SEEN, _ATTACKS = 0.2, 0.6  # as ``LOST``: of concepts seen alone; beside other things, and under attack
# Weights of a concept, and of attacks on it, at first, at least and at most, were it one of so many: what counts is the mean over all.
_WEIGHT, _ATTACKED, _LEAST, _MOST, _AMONG = 1.5, 4.0, 1.0, 10.0, 3
_CALMER = 0.5  # part of the gain by which the weight of a concept that is not seen falls
_KEEP, _NEAR = 8.0, 0.6  # what all that must stay weighs at first, and how much of that neighbours do
_ALONE = 5.0  # the most that one line of it comes to weigh, so that it leaves something of every batch to the others
_PRICE, _DEAREST = 1.0, 2.0  # of closing the whole budget: at first and at least, and at most


class Constraints:
    """Held-out rates against limits, with room for the confidence that the audit demands."""

    def __init__(self, task: TrainingTask, *, budget: float) -> None:
        self._limits, self._budget = task.limits, budget
        self._concepts = [c.name for c in task.concepts]
        self._many = len(task.concepts) / _AMONG

    def controller(self, lines: Sequence[Line], beta: float | None, *, under_attack: bool) -> Controller:
        """One constraint for each of ``lines`` and for the budget, one for each concept ``under_attack``. ``beta`` fixes what all that
        must stay weighs."""
        kept = [line.name for line in lines if line.keep]
        neighbours = len(kept) - (GENERAL in kept)
        whole = _KEEP if beta is None else beta
        general = whole * (1 - _NEAR) if neighbours else whole
        part = whole - (general if GENERAL in kept else 0.0)
        found = [self._of(line, general if line.name == GENERAL else part / max(1, neighbours)) for line in lines]
        found += self.against_attacks() if under_attack else []
        price = Constraint(CLOSED, self._budget, scale=self._budget, relax=0.6, start=_PRICE, least=_PRICE, most=_DEAREST, aim=True)
        return Controller([*found, price], gain=_GAIN, swift=_SWIFT, fixed=() if beta is None else tuple(kept))

    def against_attacks(self) -> list[Constraint]:
        """What no update may decide alone: each rate is one of few pictures.

        They may weigh more where there are many concepts: with ten and one bound for all, most weights came to it while attacks succeeded.
        """
        limit = _ATTACKS * self._limits.attack_success.value
        start, most = _ATTACKED * self._many, max(1, len(self._concepts) // _AMONG) * _MOST * self._many
        one = replace(self._against("", limit), start=start, most=most, relax=1.0, urged=False)
        return [replace(one, name=attacked(name)) for name in self._concepts]

    def _against(self, name: str, limit: float) -> Constraint:
        """What must not be seen."""
        start, least, most = (weight * self._many for weight in (_WEIGHT, _LEAST, _MOST))
        return Constraint(name, limit, scale=_SHOWN, relax=_CALMER, start=start, least=least, most=most)

    def _of(self, line: Line, start: float) -> Constraint:
        if line.keep:
            limit = 1 - LOST * (1 - self._limits.retained.value)
            return Constraint(line.name, limit, floor=True, scale=_SCALE, relax=0.05, start=start, most=max(start, _ALONE))
        alone = line.name in self._concepts
        return self._against(line.name, _SEEN * self._limits.detection.value if alone else _ATTACKS * self._limits.attack_success.value)
