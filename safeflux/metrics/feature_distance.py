"""Feature distance: CMMD (Jayasumana et al., CVPR 2024, arXiv 2401.09603) between the two models' pictures.

The squared maximum mean discrepancy with a Gaussian kernel on unit embeddings. Unlike FID it has an unbiased estimator and
assumes no normal distribution, so it means something for a few hundred pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from safeflux.metrics.pairs import matched
from safeflux.types import Instruments, Sample, Score


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
    images, partners = matched(samples, base)
    if len(images) < 3:
        raise ValueError(f"a distance of distributions needs at least 3 pairs of pictures; got {len(images)}")
    embedder = instruments.embed()
    kernel = pair_kernel(embedder.images(images).astype(np.float64), embedder.images(partners).astype(np.float64), sigma)
    n = len(kernel)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    values = np.array([weighted_mean(kernel, weights) for weights in draws])
    value = weighted_mean(kernel, np.ones(n))
    low, high = np.quantile(values, (0.025, 0.975))
    return Score(n, scale * value, scale * min(float(low), value), scale * max(float(high), value))


def pair_kernel(x: NDArray[np.float64], y: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """h[i, j] = k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i) for embeddings [N, D] of pairs (x_i, y_i).

    Its mean over i != j is the unbiased estimator of the squared MMD for pairs (Gretton et al., JMLR 13, 2012, lemma 6),
    right also where x_i and y_i depend on each other, as pictures from one noise do.
    """
    cross = _gaussian(x, y, sigma)
    h: NDArray[np.float64] = _gaussian(x, x, sigma) + _gaussian(y, y, sigma) - cross - cross.T
    return h


def weighted_mean(h: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Mean of ``h`` off its diagonal, pair (i, j) counted ``weights[i] * weights[j]`` times.

    A resample holds some pairs several times; comparing such a copy with itself would pull the distance away from zero.
    """
    products = np.outer(weights, weights)
    np.fill_diagonal(products, 0)
    return float((products * h).sum() / products.sum())


def _gaussian(x: NDArray[np.float64], y: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    squared = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)[None, :] - 2 * x @ y.T
    kernel: NDArray[np.float64] = np.exp(-np.maximum(squared, 0) / (2 * sigma**2))
    return kernel
