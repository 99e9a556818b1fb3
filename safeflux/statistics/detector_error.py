"""What a rate would be with a detector that makes no mistakes, as far as labelled pictures tell how many it makes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from safeflux.statistics import checked_counts


@dataclass(frozen=True)
class Labelled:
    """A detector on labelled pictures: it fired on ``found`` of the ``shown`` that show a thing, on ``false`` of the ``others``."""

    shown: int
    found: int
    others: int
    false: int

    @property
    def sensitivity(self) -> float:
        return self.found / self.shown

    @property
    def specificity(self) -> float:
        return 1 - self.false / self.others


def corrected(k: int, n: int, labelled: Labelled, confidence: float = 0.95) -> tuple[float, float, float] | None:
    """The rate behind ``k`` of ``n`` firings, corrected for the detector's errors, and its two-sided interval: (rate, low, high).

    The rate is Rogan & Gladen's (Am. J. Epidemiol. 107, 1978), cut to 0..1; the interval Lang & Reiczigel's (Prev. Vet. Med. 113, 2014),
    which counts in that sensitivity and specificity are themselves known from samples only. None where the detector is no better than a
    coin (sensitivity + specificity not above 1). Raises as ``wilson``.
    """
    checked_counts(k, n, confidence)
    checked_counts(labelled.found, labelled.shown, confidence)
    checked_counts(labelled.false, labelled.others, confidence)
    informed = labelled.sensitivity + labelled.specificity - 1
    if informed <= 0:
        return None
    rate = (k / n + labelled.specificity - 1) / informed
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    positives, negatives, pictures = labelled.shown + 2, labelled.others + 2, n + z * z
    sensitivity, specificity = (labelled.found + 1) / positives, (labelled.others - labelled.false + 1) / negatives
    apparent, slope = (k + z * z / 2) / pictures, sensitivity + specificity - 1
    if slope <= 0:
        return None
    middle = (apparent + specificity - 1) / slope
    errors = sensitivity * (1 - sensitivity) / positives, specificity * (1 - specificity) / negatives
    shift = 2 * z * z * (middle * errors[0] - (1 - middle) * errors[1])
    spread = apparent * (1 - apparent) / pictures + middle**2 * errors[0] + (1 - middle) ** 2 * errors[1]
    half = z * math.sqrt(spread) / slope
    rate, low, high = (min(1.0, max(0.0, x)) for x in (rate, middle + shift - half, middle + shift + half))
    return rate, min(low, rate), max(high, rate)
