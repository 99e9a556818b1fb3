"""Bounds that may be looked at after every trial: against numerical integration, and by simulated stopping."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from safeflux.statistics import lower, upper
from safeflux.statistics.anytime import log_bet, lower_anytime, needed_anytime, upper_anytime
from safeflux.statistics.joint import ceiling_p

COUNTS = [(0, 1), (0, 43), (1, 60), (3, 100), (20, 200), (100, 120), (199, 200)]


@pytest.mark.parametrize(("k", "n", "rate"), [(0, 10, 0.3), (2, 40, 0.2), (7, 30, 0.5), (50, 60, 0.95)])
def test_the_bet_is_the_averaged_likelihood_ratio(k: int, n: int, rate: float) -> None:
    from scipy.integrate import quad

    def ratio(t: float) -> float:
        return (t / rate) ** k * ((1 - t) / (1 - rate)) ** (n - k) / rate

    assert math.exp(log_bet(k, n, rate)) == pytest.approx(quad(ratio, 0, rate, epsabs=0, epsrel=1e-10)[0], rel=1e-8)


@pytest.mark.parametrize(("rate", "limit"), [(0.1, 0.1), (0.2, 0.1), (0.5, 0.5), (0.97, 0.9)])
def test_the_bet_gains_nothing_in_the_mean_where_the_rate_is_not_below(rate: float, limit: float) -> None:
    """Its expected growth by one more trial is never above 1: that is what makes stopping free."""
    for k, n in [(0, 5), (1, 12), (4, 9), (0, 60)]:
        hit, miss = (math.exp(log_bet(k + more, n + 1, limit) - log_bet(k, n, limit)) for more in (1, 0))
        growth = rate * hit + (1 - rate) * miss
        assert growth == pytest.approx(1, abs=1e-9) if rate == limit else growth < 1


@pytest.mark.parametrize(("k", "n"), COUNTS)
def test_bounds_are_where_the_bet_reaches_its_goal(k: int, n: int) -> None:
    bound = upper_anytime(k, n)
    assert math.exp(log_bet(k, n, bound)) == pytest.approx(20, rel=1e-6)
    assert lower_anytime(n - k, n) == pytest.approx(1 - bound, abs=1e-15)
    assert upper(k, n) < bound
    assert lower_anytime(k, n) < lower(k, n) or k == 0
    assert upper_anytime(k, n, 0.9) < bound < upper_anytime(k, n, 0.99)


def test_known_samples() -> None:
    assert [needed_anytime(limit) for limit in (0.3, 0.1, 0.05, 0.01)] == [13, 43, 88, 449]
    for limit in (0.01, 0.1, 0.6):
        n = needed_anytime(limit, 0.9)
        assert upper_anytime(0, n, 0.9) <= limit < upper_anytime(0, n - 1, 0.9)
    assert (upper_anytime(5, 5), lower_anytime(0, 5)) == (1.0, 0.0)


Look = Callable[[int, int], bool]


def often_looked(rng: np.random.Generator, rate: float, passes: Look, most: int, times: int) -> tuple[float, float]:
    """Of ``times`` audits that look after every picture: the share that passes at some look, and the mean pictures until then."""
    under, k = [], -1
    for n in range(1, most + 1):
        while k < n and passes(k + 1, n):
            k += 1
        under.append(k)
    passed = np.cumsum(rng.random((times, most)) < rate, axis=1) <= np.array(under)
    return float(passed.any(axis=1).mean()), float(np.where(passed.any(axis=1), passed.argmax(axis=1) + 1, most).mean())


def exact(limit: float) -> Look:
    return lambda k, n: ceiling_p(k, n, limit) <= 0.05


def anytime(limit: float) -> Look:
    return lambda k, n: log_bet(k, n, limit) >= math.log(20)


def test_looking_all_the_time_passes_a_bad_model_too_often_with_exact_bounds_and_not_with_these() -> None:
    """4000 simulated audits of at most 120 pictures, of a model exactly at the limit of 20%; three standard errors are 1%."""
    rng = np.random.default_rng(3)
    assert often_looked(rng, 0.2, exact(0.2), 120, 4000)[0] > 0.10
    assert often_looked(rng, 0.2, anytime(0.2), 120, 4000)[0] < 0.05 + 0.01


def test_a_good_model_needs_fewer_pictures() -> None:
    passed, pictures = often_looked(np.random.default_rng(4), 0.01, anytime(0.1), 150, 2000)
    assert passed > 0.99
    assert pictures < 65
