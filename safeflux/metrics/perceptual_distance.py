"""Perceptual distance: LPIPS's form (Zhang et al., CVPR 2018, arXiv 1801.03924) over the embedder's own layers, all weighing the same.

The published weights were learned for AlexNet and VGG features of photographs, which have to be downloaded; over CLIP's layers, or the
mini's, there are none. Its numbers are therefore not LPIPS's, but fall and rise with the same differences.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from safeflux.instruments import Instruments
from safeflux.metrics.pairs import matched
from safeflux.statistics import mean_interval
from safeflux.types import Sample, Score

_BATCH = 8  # pairs: all layers of CLIP ViT-L/14 take 25 MB a picture


def perceptual_distance(samples: Sequence[Sample], base: Sequence[Sample], instruments: Instruments) -> Score:
    """Mean over pairs, 0 for equal pictures. Raises ValueError for fewer than two pairs, or for pictures without a partner."""
    images, partners = matched(samples, base)
    embedder = instruments.embed()
    values: list[float] = []
    for start in range(0, len(images), _BATCH):
        both = [embedder.layers(some[start : start + _BATCH]) for some in (images, partners)]
        values += distances(*both).tolist()
    mean, low, high = mean_interval(values)
    return Score(len(values), mean, low, high)


def distances(a: Sequence[NDArray[np.float32]], b: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Of each pair, given its features [N, C, P] (channels, places) by layer: [N]. Features are scaled to length 1 at each place; their
    squared differences are summed over channels, averaged over places, and averaged over layers."""
    total = np.zeros(len(a[0]))
    for one, two in zip(a, b, strict=True):
        difference = _unit(one.astype(np.float64)) - _unit(two.astype(np.float64))
        total += (difference**2).sum(axis=1).mean(axis=1)
    found: NDArray[np.float64] = total / len(a)
    return found


def _unit(features: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = features / (np.sqrt((features**2).sum(axis=1, keepdims=True)) + 1e-10)
    return unit
