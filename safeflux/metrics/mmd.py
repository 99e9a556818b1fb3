"""What distances of distributions share: the unbiased squared maximum mean discrepancy of embeddings, in pairs or not, for any kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from safeflux.instruments import Instruments
from safeflux.metrics.pairs import matched
from safeflux.types import Sample, Score

Kernel = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]  # [N, D] and [M, D] to [N, M]


def distance(
    samples: Sequence[Sample], base: Sequence[Sample], instruments: Instruments, kernel: Kernel, *, scale: float, resamples: int, seed: int
) -> Score:
    """``scale`` times the squared MMD of the two models' pictures, with a 95% bootstrap interval over pairs.

    Raises ValueError for fewer than three pairs, or for pictures without a partner.
    """
    x, y = embedded(samples, base, instruments)
    h = pair_kernel(x, y, kernel)
    n = len(h)
    value, *values = (scale * weighted_mean(h, resampled(n, resamples, np.random.default_rng(seed)))).tolist()
    low, high = np.nanquantile(values, (0.025, 0.975))
    return Score(n, value, min(float(low), value), max(float(high), value))


def resampled(n: int, resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How often each of ``n`` counts: [1 + resamples, n]; in the first row each counts once, the others are bootstrap resamples."""
    return np.concatenate([np.ones((1, n)), rng.multinomial(n, np.full(n, 1 / n), size=resamples)])


def embedded(
    samples: Sequence[Sample], base: Sequence[Sample], instruments: Instruments
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit embeddings [N, D] of ``samples`` and of the base model's pictures for the same prompts and seeds. Raises as ``distance``."""
    images, partners = matched(samples, base)
    if len(images) < 3:
        raise ValueError(f"a distance of distributions needs at least 3 pairs of pictures; got {len(images)}")
    embedder = instruments.embed()
    return embedder.images(images).astype(np.float64), embedder.images(partners).astype(np.float64)


def pair_kernel(x: NDArray[np.float64], y: NDArray[np.float64], kernel: Kernel) -> NDArray[np.float64]:
    """h[i, j] = k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i) for embeddings [N, D] of pairs (x_i, y_i).

    Its mean over i != j is the unbiased estimator of the squared MMD for pairs (Gretton et al., JMLR 13, 2012, lemma 6),
    right also where x_i and y_i depend on each other, as pictures from one noise do.
    """
    cross = kernel(x, y)
    h: NDArray[np.float64] = kernel(x, x) + kernel(y, y) - cross - cross.T
    return h


def unpaired(
    x: NDArray[np.float64], y: NDArray[np.float64], kernel: Kernel, x_weights: NDArray[np.float64], y_weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The unbiased squared MMD [R] of embeddings [N, D] and [M, D] that are not pairs (the same, equation 3).

    Of each row of weights [R, N] and [R, M]: how often each counts.
    """
    cross = (x_weights @ kernel(x, y) * y_weights).sum(axis=1) / (x_weights.sum(axis=1) * y_weights.sum(axis=1))
    found: NDArray[np.float64] = weighted_mean(kernel(x, x), x_weights) + weighted_mean(kernel(y, y), y_weights) - 2 * cross
    return found


def weighted_mean(h: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean [R] of ``h`` [N, N] off its diagonal, pair (i, j) counted ``weights[r, i] * weights[r, j]`` times; NaN where all is one pair.

    A resample holds some pairs several times; comparing such a copy with itself would pull the distance away from zero.
    """
    squares = weights**2
    off = (weights @ h * weights).sum(axis=1) - squares @ np.diagonal(h)
    pairs = weights.sum(axis=1) ** 2 - squares.sum(axis=1)
    mean: NDArray[np.float64] = np.divide(off, pairs, out=np.full(len(off), np.nan), where=pairs > 0)
    return mean
