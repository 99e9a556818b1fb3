"""Latent drift: how far the erased model ends from where the base model ends, from the same noise, before anything is decoded.

What training holds small for what must stay (the second term of arXiv 2507.13386), measured on prompts that it never saw. No decoder, no
embedder and no detector stands between the two models here: what these cannot see, this can.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from safeflux.instruments import Instruments
from safeflux.metrics.pairs import partners
from safeflux.statistics import mean_interval
from safeflux.types import Sample, Score


def latent_drift(samples: Sequence[Sample], base: Sequence[Sample], instruments: Instruments) -> Score:
    """Mean over pairs of |erased - base| / |base|, Euclidean norms of a picture's final latents: 0 for the same, 1 as far as from nothing.

    Raises ValueError for fewer than two pairs, for pictures without a partner or latents, and for a base model whose latents are all zero.
    """
    pairs = list(zip(samples, partners(samples, base), strict=True))
    drifts = [drift(one.latents, other.latents) for one, other in pairs if one.latents is not None and other.latents is not None]
    if len(drifts) < len(pairs):
        raise ValueError(f"{len(pairs) - len(drifts)} of {len(pairs)} pairs were kept without their latents; they have to be drawn again")
    mean, low, high = mean_interval(drifts)
    return Score(len(drifts), mean, low, high)


def drift(erased: NDArray[np.float32], base: NDArray[np.float32]) -> float:
    """|erased - base| / |base| for latents [tokens, channels], in float64. Raises ValueError where ``base`` is zero throughout."""
    size = float(np.linalg.norm(base.astype(np.float64)))
    if size == 0:
        raise ValueError("the base model's latents are zero throughout: there is nothing to be relative to")
    return float(np.linalg.norm(erased.astype(np.float64) - base)) / size
