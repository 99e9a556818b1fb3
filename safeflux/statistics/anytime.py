"""Bounds that hold however often one looks: for stopping an audit as soon as a limit is decided.

A Clopper-Pearson bound holds for a number of trials fixed beforehand. Looking after every batch and stopping when it suits
gives chance many chances. The bounds here may be looked at after every trial. They are a little longer; stopping early more
than makes up for it.

The test of "the rate is at least L" bets against it: the likelihood ratio of a rate t below L to L itself, averaged over t uniform
in (0, L), is a supermartingale under every rate of at least L, so it ever reaches 1 / alpha with probability at most alpha (Ville 1939;
Robbins, Ann. Math. Statist. 41, 1970; Howard et al., Ann. Statist. 49, 2021, arXiv 1810.08240). With k hits in n trials it is

    P(Binomial(n + 1, L) >= k + 1) / ((n + 1) L P(Binomial(n, L) = k))
"""

from __future__ import annotations

import math

from safeflux.statistics import at_most, checked_counts, checked_share, falling_root


def upper_anytime(k: int, n: int, confidence: float = 0.95) -> float:
    """One-sided upper bound for the rate behind ``k`` hits in ``n`` trials, valid whenever one stops.

    The chance that it is *ever* below the true rate, at any of all looks, is at most ``1 - confidence``. Raises as ``wilson``.
    """
    checked_counts(k, n, confidence)
    if k == n:
        return 1.0
    enough = -math.log1p(-confidence)
    return _between(k / n, falling_root(lambda part: -log_bet(k, n, _between(k / n, part)), -enough))


def lower_anytime(k: int, n: int, confidence: float = 0.95) -> float:
    """One-sided lower bound: ``upper_anytime`` seen from the misses. Raises as ``wilson``."""
    return 1 - upper_anytime(n - k, n, confidence)


def needed_anytime(limit: float, confidence: float = 0.95) -> int:
    """The fewest trials that can meet ``limit`` when every look counts: with no hit, ``upper_anytime(0, n) <= limit``. Raises as
    ``statistics.needed_n``."""
    checked_share("limit", limit)
    checked_share("confidence", confidence)
    enough = -math.log1p(-confidence)
    low, high = 0, 1
    while log_bet(0, high, limit) < enough:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if log_bet(0, middle, limit) < enough else (low, middle)
    return high


def log_bet(k: int, n: int, rate: float) -> float:
    """Natural logarithm of what a unit bet against "at least ``rate``" has grown to; it rises with ``rate`` (above k / n, up to 1)."""
    if rate >= 1:
        return math.inf
    log_pmf = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(rate) + (n - k) * math.log1p(-rate)
    tail = 1 - at_most(k, n + 1)(rate)
    if tail <= 0:  # lost to rounding: the rate lies far below what was seen
        return -math.inf
    return math.log(tail) - math.log(n + 1) - math.log(rate) - log_pmf


def _between(low: float, part: float) -> float:
    return low + (1 - low) * part
