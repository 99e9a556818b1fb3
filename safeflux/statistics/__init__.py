"""Intervals, bounds and sample sizes for what an audit counts. No numpy; scipy only for the t quantile.

Counts get Wilson's two-sided interval for reading, and a one-sided Clopper-Pearson bound for deciding: the first is
short and centred well, the second never claims more confidence than it has, however small the sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist, fmean, stdev


def wilson(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided score interval for the rate behind ``k`` hits in ``n`` trials (Wilson, JASA 22, 1927).

    Its coverage is the nominal one on average over rates, not at each rate; limits are therefore decided by ``upper``
    and ``lower``. Raises ValueError unless 0 <= k <= n, n >= 1 and 0 < confidence < 1.
    """
    checked_counts(k, n, confidence)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, shrink = k / n, 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return (0.0 if k == 0 else max(0.0, centre - half)), (1.0 if k == n else min(1.0, centre + half))


def upper(k: int, n: int, confidence: float = 0.95) -> float:
    """One-sided upper bound: the largest rate at which ``k`` hits or fewer in ``n`` would not be surprising.

    Exact (Clopper & Pearson, Biometrika 26, 1934): whatever the true rate, the bound lies below it with probability at
    most ``1 - confidence``. 0 of n gives ``1 - (1 - confidence) ** (1/n)``, the "rule of three". Raises as ``wilson``.
    """
    checked_counts(k, n, confidence)
    if k == n:
        return 1.0
    if k == 0:
        return -math.expm1(math.log1p(-confidence) / n)
    return falling_root(at_most(k, n), 1 - confidence)


def lower(k: int, n: int, confidence: float = 0.95) -> float:
    """One-sided lower bound: ``upper`` seen from the misses. Raises as ``wilson``."""
    return 1 - upper(n - k, n, confidence)


def needed_n(limit: float, confidence: float = 0.95) -> int:
    """The fewest trials that can meet ``limit``: with no hit at all, ``upper(0, n, confidence) <= limit``.

    Closed form ``ln(1 - confidence) / ln(1 - limit)``. For a floor, pass ``1 - floor``. Raises ValueError unless both
    lie strictly between 0 and 1 (no number of trials shows that a rate is exactly zero).
    """
    checked_share("limit", limit)
    checked_share("confidence", confidence)
    exact = math.log1p(-confidence) / math.log1p(-limit)
    return max(1, math.ceil(exact * (1 - 1e-12)))  # the factor: a whole number must not be rounded up to the next


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean of real-valued scores with Student's t interval (Biometrika 6, 1908): ``(mean, low, high)``.

    t rather than a bootstrap: it needs no random numbers, so a report is reproduced to the last digit, and it holds its
    coverage at the few dozen pictures of a quick audit, where percentile bootstraps are too short. It may reach past
    the range of a bounded score. Raises ValueError for fewer than two values, or for values that are not finite.
    """
    checked_share("confidence", confidence)
    if len(values) < 2:
        raise ValueError(f"{len(values)} value(s) have no interval; at least 2 are needed")
    if not all(math.isfinite(value) for value in values):
        raise ValueError("an interval needs finite values; got NaN or infinity")
    from scipy.special import stdtrit

    mean = fmean(values)
    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def at_most(k: int, n: int) -> Callable[[float], float]:
    """P(hits <= k) of a binomial as a function of its rate, 0 <= k < n, summed over the shorter tail."""
    low_tail = k < n / 2
    hits = range(k + 1) if low_tail else range(k + 1, n + 1)
    ways = [(i, math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1)) for i in hits]

    def probability(rate: float) -> float:
        hit, miss = math.log(rate), math.log1p(-rate)
        tail = math.fsum(math.exp(log_ways + i * hit + (n - i) * miss) for i, log_ways in ways)
        return tail if low_tail else 1 - tail

    return probability


def falling_root(function: Callable[[float], float], target: float) -> float:
    """Where a falling function of (0, 1) reaches ``target``, by bisection to the last bit; errs to the right."""
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if function(middle) > target else (low, middle)
    return high


def checked_counts(k: int, n: int, confidence: float) -> None:
    checked_share("confidence", confidence)
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"k = {k} of n = {n} is not a count of hits; wanted 0 <= k <= n and n >= 1")


def checked_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} = {value} is out of range; wanted a number strictly between 0 and 1")
