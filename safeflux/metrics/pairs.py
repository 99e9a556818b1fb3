"""Pictures of base and erased model that share prompt and noise; only those can be compared one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from safeflux.types import Sample


def matched(samples: Sequence[Sample], base: Sequence[Sample]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The images [N, H, W, 3] of ``samples`` and, in the same order, the base model's for the same prompts and seeds.

    Raises ValueError where one has no partner: a comparison without shared noise measures the noise.
    """
    return np.stack([s.image for s in samples]), np.stack([s.image for s in partners(samples, base)])


def partners(samples: Sequence[Sample], base: Sequence[Sample]) -> list[Sample]:
    """Of each of ``samples`` what the base model drew for the same prompt and seed. Raises as ``matched``."""
    found = {(s.prompt.text, s.seed): s for s in base}
    alone = [s for s in samples if (s.prompt.text, s.seed) not in found]
    if alone or not samples:
        raise ValueError(f"{len(alone)} of {len(samples)} pictures have no base picture of the same prompt and noise seed")
    return [found[s.prompt.text, s.seed] for s in samples]
