"""Limits instead of knobs: the weights of a loss, moved until every limit is kept.

Each limit of the release has a loss that stands for it and can be differentiated, and a rate that is measured and cannot: in
how many held-out pictures a concept is seen. The mask descends the weighted losses; the weights (dual variables) ascend by
the measured rates. This is the proxy-Lagrangian of Cotter, Jiang and Sridharan (ALT 2019, arXiv 1804.06500), with
multiplicative steps, which cannot leave the positive numbers.

A rate answers late: no concept is seen less before it is nearly gone. A weight that only adds up violations has grown far too large
by then, and what must stay is lost. So a weight is the product of one that adds up slowly, and of an urge that lasts as long as the
violation does (the integral and proportional terms of Stooke, Achiam and Abbeel, ICML 2020, arXiv 2007.03964).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Constraint:
    """``name``'s measured value has to be at most ``limit``, or at least with ``floor``.

    ``scale``: a violation of this size moves the weight by the whole gain. ``relax``: the part of the gain by which the weight falls
    when the value is as good as a rate can be: 0, or 1 with ``floor``. ``start``: the weight to begin with, between ``least`` and ``most``.
    ``aim``: what is only aimed at has a weight like the others, but nothing is broken where it is missed. ``urged``: whether the latest
    violation adds to its weight; one that is known from few pictures at a time would make it jump.
    """

    name: str
    limit: float
    floor: bool = False
    scale: float = 0.1
    relax: float = 0.3
    start: float = 1.0
    least: float = 0.01
    most: float = 30.0
    aim: bool = False
    urged: bool = True

    def excess(self, value: float) -> float:
        """By how much ``value`` breaks the limit; negative where there is room."""
        return self.limit - value if self.floor else value - self.limit

    def push(self, value: float) -> float:
        """How far to move the weight, in units of the gain: up to 1 where ``value`` breaks the limit, down to ``-relax`` where it does not.

        A violation counts by ``scale``, but room by all the room that there is: a limit of 2% is never kept by more than 2 points.
        """
        excess = self.excess(value)
        if excess >= 0:
            return min(1.0, excess / self.scale)
        room = (1 - self.limit) if self.floor else self.limit
        return -self.relax * min(1.0, -excess / room) if room > 0 else 0.0


@dataclass(frozen=True)
class Unmet:
    """A limit that was not kept, and the value that was reached."""

    constraint: Constraint
    value: float

    def __str__(self) -> str:
        c = self.constraint
        return f"{c.name}: wanted at {'least' if c.floor else 'most'} {c.limit:.4g}, reached {self.value:.4g}"


class Controller:
    """The weights of constraints."""

    def __init__(self, constraints: Sequence[Constraint], *, gain: float = 0.5, swift: float = 0.0, fixed: Sequence[str] = ()) -> None:
        """``gain``: the largest step of a weight's logarithm; ``swift``: the most that the latest violation adds to it.

        Constraints named in ``fixed`` are watched, their weights left alone.
        """
        self.constraints = {c.name: c for c in constraints}
        self._slow = {c.name: c.start for c in constraints}
        self._urge = dict.fromkeys(self._slow, 0.0)
        self._gain, self._swift, self._fixed = gain, swift, frozenset(fixed)

    @property
    def weights(self) -> dict[str, float]:
        """What each constraint's loss counts for now."""
        return {name: weight * math.exp(self._swift * self._urge[name]) for name, weight in self._slow.items()}

    def update(self, measured: Mapping[str, float], *, falling: Collection[str] | None = None) -> None:
        """One dual step by ``measured`` values, by name; a constraint that was not measured keeps its weight.

        Only the weights named in ``falling``, by default all, may become smaller.
        """
        for name, value in measured.items():
            constraint = self.constraints[name]
            if name in self._fixed:
                continue
            push = constraint.push(value)
            self._urge[name] = max(0.0, push) if constraint.urged else 0.0
            if push < 0 and falling is not None and name not in falling:
                continue
            moved = self._slow[name] * math.exp(self._gain * push)
            self._slow[name] = min(constraint.most, max(constraint.least, moved))

    def broken(self, measured: Mapping[str, float]) -> dict[str, float]:
        """The limits that ``measured`` breaks, by how much in units of their scales."""
        limits = {name: c for name, c in self.constraints.items() if name in measured and not c.aim}
        excess = {name: c.excess(measured[name]) / c.scale for name, c in limits.items()}
        return {name: value for name, value in excess.items() if value > 0}

    def unmet(self, measured: Mapping[str, float]) -> tuple[Unmet, ...]:
        """What a caller has to be told of limits that ``measured``, the final values, break."""
        return tuple(Unmet(self.constraints[name], measured[name]) for name in self.broken(measured))

    def state(self) -> dict[str, dict[str, float]]:
        return {"slow": self._slow, "urge": self._urge}

    def restore(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Go on where an earlier run was."""
        self._slow, self._urge = dict(state["slow"]), dict(state["urge"])
