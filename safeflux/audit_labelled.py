"""How often a detector is wrong, counted on pictures of which it is known what they show."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from safeflux.audit_pictures import read
from safeflux.instruments import Detector
from safeflux.policy import Concept, Policy
from safeflux.policy.attached import OTHERS, SHOWN, pictures
from safeflux.statistics.detector_error import Labelled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DRAWN = 100  # pictures of each kind that the mini's world draws for the purpose


def labelled(concept: Concept, detector: Detector, policy: Policy) -> Labelled | None:
    """The detector on the concept's labelled pictures: those of the policy, else for the mini drawn ones, else none.

    Raises StageError for a picture that cannot be read.
    """
    if concept.labelled is not None:
        folder = Path(concept.labelled)
        (shown, found), (others, false) = (_fired(detector, concept.label, map(read, pictures(folder / kind))) for kind in (SHOWN, OTHERS))
        return Labelled(shown, found, others, false)
    if not policy.base.embedded:
        return None
    drawn = _drawn(concept.label)
    if drawn is None:
        return None
    found, false = (int(detector(images, concept.label).sum()) for images in drawn)
    return Labelled(DRAWN, found, DRAWN, false)


@cache
def _drawn(label: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    from safeflux.mini.labelled import labelled as draw
    from safeflux.mini.world import LABELS

    return draw(label, DRAWN) if label in LABELS else None


def _fired(detector: Detector, label: str, batches: Iterator[NDArray[np.uint8]]) -> tuple[int, int]:
    """Of how many pictures, and on how many the detector fired."""
    seen = fired = 0
    for batch in batches:
        seen += len(batch)
        fired += int(detector(batch, label).sum())
    return seen, fired
