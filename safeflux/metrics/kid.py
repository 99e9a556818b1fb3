"""Kernel distance: KID's (Bińkowski et al., ICLR 2018, arXiv 1801.01401) between the two models' pictures, over the embedder's features.

The published one is over an Inception network's; this is the same estimate over CLIP's unit vectors, or the mini's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from safeflux.instruments import Instruments
from safeflux.metrics.mmd import distance
from safeflux.types import Sample, Score


def kid(
    samples: Sequence[Sample],
    base: Sequence[Sample],
    instruments: Instruments,
    *,
    scale: float = 1000.0,
    resamples: int = 1000,
    seed: int = 0,
) -> Score:
    """``scale`` times the squared MMD with the kernel (x . y / D + 1)^3 over all pairs at once, with a 95% bootstrap interval over pairs.

    0: no difference; it can be slightly negative. Raises ValueError for fewer than three pairs, or for pictures without a partner.
    """
    return distance(samples, base, instruments, cubic, scale=scale, resamples=resamples, seed=seed)


def cubic(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """(x_i . y_j / D + 1)^3 for [N, D] and [M, D]: [N, M]."""
    kernel: NDArray[np.float64] = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel
