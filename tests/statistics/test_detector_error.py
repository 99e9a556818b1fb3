"""Correction for a detector's errors: exact where all is known, and its interval by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from safeflux.statistics.detector_error import Labelled, corrected


def test_a_faultless_detector_needs_no_correction() -> None:
    found = corrected(30, 100, Labelled(100_000, 100_000, 100_000, 0))
    assert found is not None
    assert found[0] == pytest.approx(0.3)
    assert found[1:] == pytest.approx((0.219, 0.396), abs=0.01)  # Agresti and Coull's


@pytest.mark.parametrize("true", [0.0, 0.1, 0.5, 1.0])
def test_expected_counts_give_back_the_true_rate(true: float) -> None:
    labelled = Labelled(1000, 900, 1000, 50)
    found = corrected(round(10_000 * (true * 0.9 + (1 - true) * 0.05)), 10_000, labelled)
    assert found is not None
    assert found[0] == pytest.approx(true, abs=1e-3)
    assert found[1] <= true + 1e-3
    assert true - 1e-3 <= found[2]


def test_rates_stay_rates_and_a_coin_corrects_nothing() -> None:
    found = corrected(0, 50, Labelled(100, 95, 100, 10))
    assert found is not None
    assert found[:2] == (0.0, 0.0)
    assert corrected(10, 50, Labelled(100, 50, 100, 50)) is None
    assert corrected(10, 50, Labelled(100, 10, 100, 40)) is None
    with pytest.raises(ValueError, match="wanted"):
        corrected(1, 50, Labelled(100, 101, 100, 3))


@pytest.mark.parametrize(("true", "sensitivity", "specificity"), [(0.05, 0.95, 0.98), (0.3, 0.8, 0.9), (0.02, 0.99, 0.99)])
def test_the_interval_covers_the_true_rate(true: float, sensitivity: float, specificity: float) -> None:
    """2000 simulated audits of 120 pictures with 150 + 150 labelled ones; three standard errors are 1.5%."""
    rng = np.random.default_rng(5)
    k = rng.binomial(120, true * sensitivity + (1 - true) * (1 - specificity), 2000)
    right, wrong = rng.binomial(150, sensitivity, 2000), rng.binomial(150, 1 - specificity, 2000)
    covered = 0
    for one, found, false in zip(k.tolist(), right.tolist(), wrong.tolist(), strict=True):
        made = corrected(one, 120, Labelled(150, found, 150, false))
        assert made is not None
        covered += made[1] <= true <= made[2]
    assert covered / 2000 >= 0.95 - 0.015
