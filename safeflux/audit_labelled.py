"""How often a detector is wrong, counted on pictures of which it is known what they show."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from safeflux.errors import StageError
from safeflux.instruments import Detector
from safeflux.policy import Concept, Policy
from safeflux.statistics.detector_error import Labelled

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHOWN, OTHERS = "shown", "others"  # the folders of a policy's labelled pictures
DRAWN = 100  # pictures of each kind that the mini's world draws for the purpose
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def labelled(concept: Concept, detector: Detector, policy: Policy) -> Labelled | None:
    """The detector on the concept's labelled pictures: those of the policy, else for the mini drawn ones, else none.

    Raises StageError for a directory without ``shown/`` and ``others/``, or without pictures in them.
    """
    if concept.labelled is not None:
        folder = Path(concept.labelled)
        (shown, found), (others, false) = (_fired(detector, concept.label, _read(folder / kind)) for kind in (SHOWN, OTHERS))
        return Labelled(shown, found, others, false)
    if not policy.base.embedded:
        return None
    drawn = _drawn(concept.label)
    if drawn is None:
        return None
    found, false = (int(detector(pictures, concept.label).sum()) for pictures in drawn)
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


def _read(folder: Path) -> Iterator[NDArray[np.uint8]]:
    """The pictures of a folder, in one at a time, for their sizes may differ: [1, H, W, 3]."""
    from PIL import Image, UnidentifiedImageError

    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in _PICTURES) if folder.is_dir() else []
    if not paths:
        kinds = ", ".join(_PICTURES)
        raise StageError(f"{folder} holds no pictures; labelled ones are files ({kinds}) in the folders {SHOWN}/ and {OTHERS}/")
    for path in paths:
        try:
            with Image.open(path) as image:
                yield np.asarray(image.convert("RGB"))[None]
        except (OSError, UnidentifiedImageError) as error:
            raise StageError(f"{path} cannot be read as a picture: {error}") from error
