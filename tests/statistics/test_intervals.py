"""Intervals against scipy, published tables and theorems (monotony, symmetry, coverage by enumeration)."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from safeflux.statistics import lower, mean_interval, needed_n, upper, wilson

COUNTS = [(0, 1), (1, 1), (0, 95), (18, 95), (3, 20), (20, 20), (299, 300), (150, 300), (1, 2000), (1990, 2000)]
NEWCOMBE = [(81, 263), (15, 148), (0, 20), (1, 29)]  # Newcombe, Statistics in Medicine 17 (1998), table I


@pytest.mark.parametrize(("k", "n"), COUNTS)
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_agrees_with_scipy(k: int, n: int, confidence: float) -> None:
    from scipy.stats import binomtest

    ours, theirs = wilson(k, n, confidence), binomtest(k, n).proportion_ci(confidence, "wilson")
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    exact = binomtest(k, n, alternative="less").proportion_ci(confidence, "exact")
    assert upper(k, n, confidence) == pytest.approx(exact.high, rel=1e-9)
    exact = binomtest(k, n, alternative="greater").proportion_ci(confidence, "exact")
    assert lower(k, n, confidence) == pytest.approx(exact.low, rel=1e-9, abs=1e-14)


def test_published_wilson_intervals() -> None:
    want = [(0.2553, 0.3662), (0.0624, 0.1605), (0.0, 0.1611), (0.0061, 0.1718)]
    for (k, n), interval in zip(NEWCOMBE, want, strict=True):
        assert wilson(k, n) == pytest.approx(interval, abs=5e-5)


def test_published_exact_intervals() -> None:
    want = [(0.2527, 0.3676), (0.0578, 0.1617), (0.0, 0.1684), (0.0009, 0.1776)]
    for (k, n), interval in zip(NEWCOMBE, want, strict=True):  # two-sided 95% = both one-sided 97.5%
        assert (lower(k, n, 0.975), upper(k, n, 0.975)) == pytest.approx(interval, abs=5e-5)


def test_rule_of_three() -> None:
    assert upper(0, 300) == pytest.approx(3 / 300, rel=0.01)
    assert upper(0, 95) == pytest.approx(1 - 0.05 ** (1 / 95), rel=1e-12)


def test_nothing_and_everything_found() -> None:
    for n in (1, 7, 400):
        assert wilson(0, n)[0] == lower(0, n) == 0.0
        assert wilson(n, n)[1] == upper(n, n) == 1.0
        assert 0 < upper(0, n) < 1
        assert 0 < lower(n, n) < 1


@pytest.mark.parametrize("n", [1, 2, 11, 60])
def test_bounds_grow_with_hits_and_hold_the_rate(n: int) -> None:
    for bound in (upper, lower):
        found = [bound(k, n) for k in range(n + 1)]
        assert found == sorted(found)
        assert len(set(found)) == n + 1
    for k in range(n + 1):
        assert lower(k, n) <= k / n <= upper(k, n)
        assert wilson(k, n)[0] <= k / n <= wilson(k, n)[1]
        assert lower(k, n) == pytest.approx(1 - upper(n - k, n), abs=1e-12)


def test_more_confidence_and_fewer_trials_widen() -> None:
    assert upper(3, 50, 0.9) < upper(3, 50, 0.95) < upper(3, 50, 0.999)
    assert upper(0, 400) < upper(0, 100) < upper(0, 25)
    assert wilson(5, 50)[1] - wilson(5, 50)[0] > wilson(50, 500)[1] - wilson(50, 500)[0]


def coverage(n: int, p: float, covers: list[bool]) -> float:
    return math.fsum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1) if covers[k])


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_exact_bounds_cover_every_rate(confidence: float) -> None:
    """All outcomes of n = 20 enumerated: the true rate lies under the bound at least as often as promised."""
    ups, lows = [upper(k, 20, confidence) for k in range(21)], [lower(k, 20, confidence) for k in range(21)]
    for p in (i / 500 for i in range(1, 500)):
        assert coverage(20, p, [p <= bound for bound in ups]) >= confidence - 1e-9
        assert coverage(20, p, [p >= bound for bound in lows]) >= confidence - 1e-9


def test_wilson_covers_on_average_and_not_always() -> None:
    """Why limits are not decided by it: near some rates it covers less than promised."""
    intervals = [wilson(k, 20) for k in range(21)]
    found = [coverage(20, p, [low <= p <= high for low, high in intervals]) for p in (i / 500 for i in range(1, 500))]
    assert sum(found) / len(found) == pytest.approx(0.95, abs=0.01)
    assert min(found) < 0.9


@pytest.mark.parametrize("limit", [0.001, 0.01, 0.05, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("confidence", [0.5, 0.75, 0.95, 0.999])
def test_needed_n_is_the_smallest_that_can_pass(limit: float, confidence: float) -> None:
    n = needed_n(limit, confidence)
    assert upper(0, n, confidence) <= limit * (1 + 1e-12)
    assert n == 1 or upper(0, n - 1, confidence) > limit


def test_needed_n_known_values() -> None:
    assert [needed_n(limit) for limit in (0.1, 0.05, 0.01)] == [29, 59, 299]
    assert needed_n(0.5, 0.75) == 2  # exactly two: 1 - 0.25 ** (1/2) = 0.5


def test_mean_interval_agrees_with_scipy() -> None:
    from scipy.stats import ttest_1samp

    values = [0.31, 0.29, 0.44, 0.38, 0.27, 0.35]
    want = ttest_1samp(values, 0).confidence_interval(0.9)
    mean, low, high = mean_interval(values, 0.9)
    assert (low, high) == pytest.approx((want.low, want.high), rel=1e-12)
    assert mean == pytest.approx(sum(values) / 6)
    assert mean_interval([2.0, 2.0]) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize("interval", [wilson, upper, lower])
@pytest.mark.parametrize(("k", "n", "confidence"), [(1, 0, 0.95), (-1, 5, 0.95), (6, 5, 0.95), (1, 5, 1.0), (1, 5, 0.0), (1, 5, math.nan)])
def test_refuses_what_is_no_count(interval: object, k: int, n: int, confidence: float) -> None:
    assert callable(interval)
    with pytest.raises(ValueError, match=r"wanted"):
        interval(k, n, confidence)


def test_refuses_impossible_limits_and_lone_values() -> None:
    with pytest.raises(ValueError, match="limit = 0"):
        needed_n(0)
    with pytest.raises(ValueError, match="at least 2"):
        mean_interval([0.5])
    with pytest.raises(ValueError, match="finite"):
        mean_interval([0.5, math.nan])


def test_imports_neither_numpy_nor_scipy() -> None:
    code = (
        "import sys, safeflux.statistics as s; s.upper(3, 90); s.wilson(3, 90); print([m for m in ('numpy', 'scipy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"
