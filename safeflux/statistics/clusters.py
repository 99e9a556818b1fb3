"""Rates where several pictures come from one prompt: such pictures resemble each other, and tell less than as many prompts would."""

from __future__ import annotations

import random
from collections.abc import Sequence

from safeflux.statistics import checked_counts, checked_share, wilson


def clustered(hits: Sequence[Sequence[bool]], confidence: float = 0.95, *, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Two-sided interval for the rate of ``hits``, given by prompt: percentile bootstrap over prompts (Field & Welsh, JRSS B 69, 2007).

    Prompts are drawn again with their pictures together, so that what pictures of a prompt share is counted once. Where it comes out
    shorter than Wilson's for as many independent pictures, the latter is taken: a bootstrap of few prompts, or of none
    that hits, knows less than it says. Raises ValueError for no prompts, or a prompt without pictures.
    """
    checked_share("confidence", confidence)
    if not hits or not all(hits):
        raise ValueError(f"{len(hits)} prompts, of which some without pictures, have no rate; wanted pictures of at least one prompt")
    sums, sizes = [sum(one) for one in hits], [len(one) for one in hits]
    checked_counts(sum(sums), sum(sizes), confidence)
    low, high = wilson(sum(sums), sum(sizes), confidence)
    rng, places = random.Random(seed), range(len(hits))
    rates = []
    for _ in range(resamples):
        drawn = rng.choices(places, k=len(hits))
        rates.append(sum(sums[i] for i in drawn) / sum(sizes[i] for i in drawn))
    rates.sort()
    tail = (1 - confidence) / 2
    ends = rates[int(tail * resamples)], rates[min(resamples - 1, int((1 - tail) * resamples))]
    return min(low, ends[0]), max(high, ends[1])
