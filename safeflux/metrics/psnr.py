"""Peak signal-to-noise ratio between the two models' pictures from the same noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from safeflux.instruments import Instruments
from safeflux.metrics.pairs import matched
from safeflux.statistics import mean_interval
from safeflux.types import Sample, Score

EQUAL = 100.0  # dB, for pictures that do not differ at all, whose ratio is infinite


def psnr(samples: Sequence[Sample], base: Sequence[Sample], instruments: Instruments) -> Score:
    """Mean over pairs, in dB; 100 for equal pictures. Raises ValueError for fewer than two pairs, or for pictures without a partner."""
    images, partners = matched(samples, base)
    values = [ratio(a, b) for a, b in zip(images, partners, strict=True)]
    mean, low, high = mean_interval(values)
    return Score(len(values), mean, low, high)


def ratio(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """10 log10(255^2 / mean squared difference) of two pictures [H, W, 3], ``EQUAL`` at most."""
    squared = float(((a.astype(np.float64) - b) ** 2).mean())
    return EQUAL if squared == 0 else min(EQUAL, float(10 * np.log10(255**2 / squared)))
