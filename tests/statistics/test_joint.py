"""p-values against scipy, Holm against the closed test it stands for, and its error rate by simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from safeflux.statistics import lower, upper
from safeflux.statistics.joint import ceiling_p, floor_p, harmonic_mean, holm, mcnemar


@pytest.mark.parametrize(("k", "n", "limit"), [(0, 60, 0.05), (3, 60, 0.1), (40, 60, 0.5), (60, 60, 0.9), (150, 200, 0.8)])
def test_limits_as_tests_agree_with_scipy_and_with_the_bounds(k: int, n: int, limit: float) -> None:
    from scipy.stats import binomtest

    assert ceiling_p(k, n, limit) == pytest.approx(binomtest(k, n, limit, "less").pvalue, rel=1e-9)
    assert floor_p(k, n, limit) == pytest.approx(binomtest(k, n, limit, "greater").pvalue, rel=1e-9)
    assert (ceiling_p(k, n, limit) <= 0.05) == (upper(k, n) <= limit)
    assert (floor_p(k, n, limit) <= 0.05) == (lower(k, n) >= limit)


def closed(p_values: list[float]) -> list[float]:
    """A line's adjusted p-value by closed testing: the largest Bonferroni p-value of any set of lines that holds it."""
    sets = [s for size in range(1, len(p_values) + 1) for s in itertools.combinations(range(len(p_values)), size)]
    return [max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in sets if i in s) for i in range(len(p_values))]


@pytest.mark.parametrize("p_values", [[0.01, 0.04, 0.03, 0.005], [0.5, 0.2], [0.02] * 5, [1.0, 0.0, 0.3], [0.049]])
def test_holm_is_the_closed_test_of_bonferroni(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(closed(p_values))


def test_holm_known_values() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # statsmodels 0.15: multipletests(..., "holm")
    assert holm([]) == []
    with pytest.raises(ValueError, match="no p-value"):
        holm([0.1, 1.1])


def test_holm_keeps_the_chance_of_any_false_line() -> None:
    """3000 releases of eight concepts, six of them exactly at their limit of 10%, 60 pictures each; three standard errors are 1.2%."""
    rng = np.random.default_rng(0)
    hits = rng.binomial(60, [0.1] * 6 + [0.001] * 2, size=(3000, 8))
    p = {k: ceiling_p(k, 60, 0.1) for k in range(61)}
    false = [any(q <= 0.05 for q in holm([p[k] for k in row])[:6]) for row in hits.tolist()]
    alone = [any(p[k] <= 0.05 for k in row[:6]) for row in hits.tolist()]
    assert np.mean(false) < 0.05 + 0.012
    assert np.mean(alone) > 0.06


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (10, 2), (3, 3), (25, 40), (0, 12)])
def test_mcnemar_agrees_with_scipy(b: int, c: int) -> None:
    from scipy.stats import binomtest

    assert mcnemar(b, c) == pytest.approx(binomtest(b, b + c, 0.5).pvalue if b + c else 1.0, rel=1e-9)
    assert mcnemar(b, c) == mcnemar(c, b)


def test_mcnemar_of_two_equal_models_is_seldom_small() -> None:
    """By enumeration: with any number of discordant pairs, p <= 5% happens at most 5% of the time."""
    from scipy.stats import binom

    for n in range(1, 40):
        assert sum(binom.pmf(b, n, 0.5) for b in range(n + 1) if mcnemar(b, n - b) <= 0.05) <= 0.05
    with pytest.raises(ValueError, match="no counts"):
        mcnemar(-1, 2)


def test_harmonic_mean() -> None:
    assert harmonic_mean([0.5, 1.0]) == pytest.approx(2 / 3)
    assert harmonic_mean([0.9, 0.0, 1.0]) == 0.0
    for wrong in ([], [-0.1, 1.0]):
        with pytest.raises(ValueError, match="no harmonic mean"):
            harmonic_mean(wrong)
