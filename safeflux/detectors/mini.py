"""The embedded FLUX's own detectors: the judge, and the checker that was built and trained apart from it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from safeflux.errors import StageError
from safeflux.mini import detector
from safeflux.mini.world import LABELS

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class MiniDetector:
    """A ``Detector`` over the mini's labels: fires where the label's score is above ``threshold`` (0..1)."""

    name: str
    threshold: float
    digest: str
    scores: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    labels: tuple[str, ...] = LABELS

    def __call__(self, images: NDArray[np.uint8], label: str) -> NDArray[np.bool_]:
        """Pictures [N, H, W, 3] to [N]. Raises StageError for a label that the mini's world does not have."""
        if label not in self.labels:
            raise StageError(f"the detector {self.name} does not know {label!r}; it knows {', '.join(self.labels)}")
        fires: NDArray[np.bool_] = self.scores(images)[:, self.labels.index(label)] > self.threshold
        return fires


def mini(*, threshold: float = 0.5) -> MiniDetector:
    """The judge."""
    return _load("judge", "mini", threshold)


def mini_checker(*, threshold: float = 0.5) -> MiniDetector:
    """The checker."""
    return _load("checker", "mini-checker", threshold)


def _load(which: detector.Which, name: str, threshold: float) -> MiniDetector:
    weights = detector.DIRECTORY / f"{which}.safetensors"
    if not weights.is_file():
        raise StageError(f"{weights} is missing; install SafeFlux again, or make it with python -m safeflux.mini.train")
    return MiniDetector(name, threshold, hashlib.sha256(weights.read_bytes()).hexdigest(), detector.load(which))
