"""Embedding score: how well pictures fit their prompts (CLIPScore, Hessel et al., EMNLP 2021, arXiv 2104.08718, unscaled)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from safeflux.instruments import Instruments
from safeflux.statistics import mean_interval
from safeflux.types import Sample, Score


def embedding_score(samples: Sequence[Sample], base: Sequence[Sample], instruments: Instruments) -> Score:
    """Mean cosine (-1..1) of picture and prompt, without CLIPScore's factor 2.5 and its cut at 0.

    Raises ValueError for fewer than two samples.
    """
    embedder = instruments.embed()
    images = embedder.images(np.stack([s.image for s in samples]))
    texts = embedder.texts([s.prompt.text for s in samples])
    mean, low, high = mean_interval((images * texts).sum(axis=1).astype(float).tolist())
    return Score(len(samples), mean, low, high)
