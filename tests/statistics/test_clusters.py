"""Pictures that share prompts: the interval over prompts covers where the one over pictures does not."""

from __future__ import annotations

import numpy as np
import pytest

from safeflux.statistics import wilson
from safeflux.statistics.clusters import clustered


def test_one_picture_a_prompt_is_never_shorter_than_wilson() -> None:
    hits = [[i % 5 == 0] for i in range(60)]
    low, high = clustered(hits)
    assert low <= wilson(12, 60)[0]
    assert high >= wilson(12, 60)[1]
    assert (low, high) == clustered(hits)
    assert clustered([[False] * 15] * 8) == wilson(0, 120)


def test_prompts_that_work_all_the_time_or_never_count_as_one_each() -> None:
    low, high = clustered([[i < 2] * 15 for i in range(8)])
    assert low == 0.0
    assert high > 0.6  # 2 of 8, not 30 of 120
    assert wilson(30, 120)[1] < 0.35


def test_coverage_where_prompts_differ() -> None:
    """200 simulated audits of 30 prompts with 8 pictures each; every prompt has a rate of its own, 0.3 in the mean."""
    rng = np.random.default_rng(1)
    covered, naive = 0, 0
    for _ in range(200):
        rates = rng.beta(0.6, 1.4, 30)
        hits = [list(rng.random(8) < rate) for rate in rates]
        low, high = clustered(hits, resamples=200)
        covered += low <= 0.3 <= high
        low, high = wilson(sum(map(sum, hits)), 240)
        naive += low <= 0.3 <= high
    assert covered / 200 > 0.89
    assert naive / 200 < 0.82


def test_refuses_prompts_without_pictures() -> None:
    for wrong in ([], [[True], []]):
        with pytest.raises(ValueError, match="no rate"):
            clustered(wrong)
