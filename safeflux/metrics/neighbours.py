"""Neighbour accuracy: retained accuracy on the things nearest to a concept, which an erasure damages first."""

from __future__ import annotations

from collections.abc import Sequence

from safeflux.instruments import Instruments
from safeflux.metrics.counting import share
from safeflux.types import Sample, Score


def neighbours(samples: Sequence[Sample], base: Sequence[Sample], instruments: Instruments) -> Score:
    """Over the ``samples`` of neighbour prompts. Raises ValueError when there are none."""
    return share([s for s in samples if s.prompt.kind == "neighbour"], instruments.detect)
