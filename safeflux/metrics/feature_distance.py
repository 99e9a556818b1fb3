"""Feature distance: CMMD (Jayasumana et al., CVPR 2024, arXiv 2401.09603) between the two models' pictures.

The squared maximum mean discrepancy with a Gaussian kernel on unit embeddings. Unlike FID it has an unbiased estimator and
assumes no normal distribution, so it means something for a few hundred pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from safeflux.instruments import Instruments
from safeflux.metrics.mmd import distance
from safeflux.types import Sample, Score


def feature_distance(
    samples: Sequence[Sample],
    base: Sequence[Sample],
    instruments: Instruments,
    *,
    sigma: float = 10.0,
    scale: float = 1000.0,
    resamples: int = 1000,
    seed: int = 0,
) -> Score:
    """``scale`` times the squared MMD, with a 95% bootstrap interval over pairs; it can be slightly negative.

    ``sigma`` is the kernel's width and ``scale`` a factor for reading, both the paper's. 0: no difference.
    Raises ValueError for fewer than three pairs, or for pictures without a partner.
    """

    def kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        return gaussian(x, y, sigma)

    return distance(samples, base, instruments, kernel, scale=scale, resamples=resamples, seed=seed)


def gaussian(x: NDArray[np.float64], y: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """exp(-|x_i - y_j|^2 / (2 sigma^2)) for [N, D] and [M, D]: [N, M]."""
    squared = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)[None, :] - 2 * x @ y.T
    kernel: NDArray[np.float64] = np.exp(-np.maximum(squared, 0) / (2 * sigma**2))
    return kernel
