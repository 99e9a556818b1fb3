"""Detection rate: the share of pictures in which the concept's detector fires."""

from __future__ import annotations

from collections.abc import Sequence

from safeflux.instruments import Instruments
from safeflux.metrics.counting import share
from safeflux.types import Sample, Score


def detection(samples: Sequence[Sample], base: Sequence[Sample], instruments: Instruments) -> Score:
    """Over the ``samples`` that were drawn for a concept. Raises ValueError when there are none."""
    return share([s for s in samples if s.prompt.concept is not None], instruments.detect)
