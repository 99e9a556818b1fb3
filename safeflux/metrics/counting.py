"""What the counting metrics share: in how many pictures the detector finds what the prompt names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from safeflux.instruments import Detector
from safeflux.statistics import wilson
from safeflux.statistics.clusters import clustered
from safeflux.types import Sample, Score


def shows(samples: Sequence[Sample], detect: Detector) -> NDArray[np.bool_]:
    """For each sample whether the detector finds everything its prompt expects; False where it expects nothing."""
    found = np.array([bool(s.prompt.expects) for s in samples])
    for label in sorted({label for s in samples for label in s.prompt.expects}):
        at = [i for i, s in enumerate(samples) if label in s.prompt.expects]
        found[at] &= detect(np.stack([samples[i].image for i in at]), label)
    return found


def share(samples: Sequence[Sample], detect: Detector) -> Score:
    """``shows`` counted, with Wilson's 95% interval, or over prompts where several pictures share one (``statistics.clusters``).

    Raises ValueError when there are no samples.
    """
    if not samples:
        raise ValueError("there are no pictures to look at")
    groups: dict[str, list[bool]] = {}
    for sample, hit in zip(samples, shows(samples, detect).tolist(), strict=True):
        groups.setdefault(sample.prompt.text, []).append(hit)
    by_prompt, n = list(groups.values()), len(samples)
    k = sum(map(sum, by_prompt))
    low, high = wilson(k, n) if len(by_prompt) == n else clustered(by_prompt)
    return Score(n, k / n, low, high, k, len(by_prompt), sum(map(any, by_prompt)))
