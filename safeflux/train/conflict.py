"""When erasing pulls against keeping (Yu et al., Gradient surgery for multi-task learning, NeurIPS 2020, arXiv 2001.06782)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def without_conflict(erase: Sequence[Tensor], retain: Tensor) -> list[Tensor]:
    """Each concept's gradient [units] without the part that points against the ``retain`` gradient [units].

    A gradient that does not conflict, and any where there is nothing to retain, comes back unchanged.
    """
    square = retain.square().sum()
    if square == 0:
        return list(erase)
    return [g - (g @ retain).clamp(max=0) / square * retain for g in erase]
