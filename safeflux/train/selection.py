"""Give back what was taken in vain: the smallest mask that still keeps the limits, by measuring and not by guessing."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from safeflux.plan.erasing import TRIES

Holds = Callable[[Tensor], bool]  # whether binary gates [units] keep every limit


def reopen(gates: Tensor, cost: Tensor, shut: Tensor, holds: Holds, *, tries: int = TRIES) -> Tensor:
    """``gates`` [units] of 0 and 1 with as many reopened as ``holds`` allows, the cheapest first by ``cost`` [units].

    ``cost`` is what the loss would rise by if a unit were open again; units of ``shut`` stay closed. Bisection, so ``tries``
    measurements; what comes back was measured to hold, unless it is ``gates`` unchanged.
    """
    closed = ((gates == 0) & ~shut).nonzero().flatten()
    order = closed[cost[closed].argsort(stable=True)]
    low, high = 0, len(order) + 1  # so many can be reopened; so many cannot
    found = gates
    for _ in range(tries):
        middle = (low + high) // 2
        if middle == low:
            break
        tried = gates.clone()
        tried[order[:middle]] = 1
        if holds(tried):
            low, found = middle, tried
        else:
            high = middle
    return found
