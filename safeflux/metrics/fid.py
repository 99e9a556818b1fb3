"""Fréchet distance: FID's (Heusel et al., NeurIPS 2017, arXiv 1706.08500) between the two models' pictures, over the embedder's features.

The published one is over an Inception network's, and of thousands of pictures. It is biased: a few hundred give too much, and how much
too much depends on how many. ``feature-distance`` is the one to trust; this one is here because others report it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from safeflux.instruments import Instruments
from safeflux.metrics.mmd import embedded
from safeflux.types import Sample, Score

_GROUPS = 10


def fid(samples: Sequence[Sample], base: Sequence[Sample], instruments: Instruments, *, scale: float = 1000.0) -> Score:
    """``scale`` times the Fréchet distance of normal distributions fitted to both, with a 95% interval by a jackknife over ten groups.

    Raises ValueError for fewer than 30 pairs, or for pictures without a partner.
    """
    x, y = embedded(samples, base, instruments)
    if len(x) < 3 * _GROUPS:
        raise ValueError(f"a Fréchet distance needs at least {3 * _GROUPS} pairs of pictures; got {len(x)}")
    value = frechet(x, y)
    group = np.arange(len(x)) % _GROUPS
    without = np.array([frechet(x[group != i], y[group != i]) for i in range(_GROUPS)])
    error = float(np.sqrt((_GROUPS - 1) / _GROUPS * ((without - without.mean()) ** 2).sum()))
    from scipy.special import stdtrit

    half = float(stdtrit(_GROUPS - 1, 0.975)) * error
    return Score(len(x), scale * value, scale * max(0.0, value - half), scale * (value + half))


def frechet(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """|m - n|^2 + tr(A + B - 2 (A B)^(1/2)) for the means m, n and covariances A, B of [N, D] and [M, D]; never below 0."""
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b @ root), 0)).sum()  # the trace of (A B)^(1/2), as root B root is similar to A B
    return max(0.0, float(((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * cross))
