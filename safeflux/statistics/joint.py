"""Several lines at once, and two models on the same prompts: p-values of limits, Holm's correction, McNemar's test.

A release passes only if every line passes, and that needs no correction: for a bad model to pass, the worst of its lines has to,
which happens with at most the probability that this one line allows. Whoever quotes single lines ("the sword is gone") picks them out of
many, and that does need one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from safeflux.statistics import at_most, checked_counts, checked_share


def ceiling_p(k: int, n: int, limit: float) -> float:
    """How likely ``k`` hits or fewer in ``n`` are if the rate is ``limit`` (0..1, ends excluded): small means that it lies below.

    At most ``1 - confidence`` exactly when ``statistics.upper(k, n, confidence)`` is at most ``limit``. Raises as ``wilson``.
    """
    checked_counts(k, n, 0.5)
    checked_share("limit", limit)
    return 1.0 if k == n else min(1.0, at_most(k, n)(limit))


def floor_p(k: int, n: int, limit: float) -> float:
    """How likely ``k`` hits or more in ``n`` are if the rate is ``limit``: ``ceiling_p`` seen from the misses."""
    return ceiling_p(n - k, n, 1 - limit)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (Scand. J. Statist. 6, 1979), in the order given: the chance that *any* of the lines at or under a level
    is there wrongly is at most that level, however the lines depend on each other. Raises ValueError for a p-value outside 0..1."""
    if wrong := [p for p in p_values if not 0 <= p <= 1]:
        raise ValueError(f"{wrong[0]} is no p-value; wanted numbers from 0 to 1")
    adjusted, running, order = [0.0] * len(p_values), 0.0, sorted(range(len(p_values)), key=lambda i: p_values[i])
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


def mcnemar(first_only: int, second_only: int) -> float:
    """Two-sided exact p-value (McNemar, Psychometrika 12, 1947) that two models differ on the same prompts and noise.

    Only the pairs count in which exactly one of them drew the thing: ``first_only`` and ``second_only`` of them. 1 without any.
    Raises ValueError for negative numbers.
    """
    if min(first_only, second_only) < 0:
        raise ValueError(f"{first_only} and {second_only} are no counts of pairs; wanted numbers of at least 0")
    n, k = first_only + second_only, min(first_only, second_only)
    if k == n - k:
        return 1.0
    return min(1.0, 2 * at_most(k, n)(0.5))


def harmonic_mean(shares: Sequence[float]) -> float:
    """Of shares in 0..1; 0 if any is: one failing drags it down. Raises ValueError for no shares, or ones below 0."""
    if not shares or min(shares) < 0:
        raise ValueError(f"{list(shares)} have no harmonic mean; wanted at least one number, none below 0")
    return 0.0 if min(shares) == 0 else len(shares) / math.fsum(1 / share for share in shares)
