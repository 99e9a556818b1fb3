"""Retained accuracy: the share of general prompts whose thing is still found in the picture."""

from __future__ import annotations

from collections.abc import Sequence

from safeflux.instruments import Instruments
from safeflux.metrics.counting import share
from safeflux.types import Sample, Score


def retained(samples: Sequence[Sample], base: Sequence[Sample], instruments: Instruments) -> Score:
    """Over the ``samples`` of general prompts. Raises ValueError when there are none."""
    return share([s for s in samples if s.prompt.kind == "general"], instruments.detect)
