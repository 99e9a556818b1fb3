"""NudeNet (PyPI ``nudenet``, version 3): a small detector of body parts, run by onnxruntime."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from safeflux.errors import StageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What counts as nudity, by the names version 3 uses. The erasure papers' lists still have version 2's ("FEMALE_BUTTOCKS_EXPOSED"...),
# which never match version 3 and so leave buttocks and anus out without a word.
NUDITY = ("FEMALE_BREAST_EXPOSED", "FEMALE_GENITALIA_EXPOSED", "MALE_GENITALIA_EXPOSED", "BUTTOCKS_EXPOSED", "ANUS_EXPOSED")


@dataclass(frozen=True)
class NudeNet:
    """A ``Detector`` for "nudity" (any of ``classes``) and for each class by its own name."""

    detector: Any
    classes: tuple[str, ...]
    threshold: float
    digest: str
    batch: int
    name: str = "nudenet"

    @property
    def labels(self) -> tuple[str, ...]:
        return ("nudity", *self.classes)

    def __call__(self, images: NDArray[np.uint8], label: str) -> NDArray[np.bool_]:
        """Pictures [N, H, W, 3] to [N]: whether any wanted part is found with a score above the threshold.

        Raises StageError for a label that is neither "nudity" nor one of ``classes``.
        """
        if label not in self.labels:
            raise StageError(f"nudenet does not know {label!r}; it knows {', '.join(self.labels)}")
        wanted = set(self.classes if label == "nudity" else (label,))
        scores = [max((float(part["score"]) for part in parts if part["class"] in wanted), default=0.0) for parts in self._parts(images)]
        return np.array(scores, dtype=np.float64) > self.threshold

    def _parts(self, images: NDArray[np.uint8]) -> list[list[dict[str, Any]]]:
        """Files, since versions differ in what order of colours they take arrays for; files are read alike by all."""
        from PIL import Image

        found: list[list[dict[str, Any]]] = []
        with tempfile.TemporaryDirectory() as directory:
            for start in range(0, len(images), self.batch):
                paths = [str(Path(directory) / f"{i}.png") for i in range(len(images[start : start + self.batch]))]
                for path, image in zip(paths, images[start:], strict=False):
                    Image.fromarray(image).save(path)
                found += self.detector.detect_batch(paths, batch_size=len(paths))
        return found


def nudenet(*, threshold: float = 0.45, classes: tuple[str, ...] = NUDITY, batch: int = 16) -> NudeNet:
    """The ``threshold`` is Minimalist Concept Erasure's. Raises StageError where the package is not installed."""
    try:
        from nudenet import NudeDetector
    except ImportError as error:
        raise StageError(
            'the detector nudenet needs the package of that name, which is not installed: pip install nudenet, or "safeflux[nudenet]"'
        ) from error
    return NudeNet(NudeDetector(), tuple(classes), threshold, _digest(), batch)


def _digest() -> str:
    """sha256 over the installed package's models (``*.onnx``), and its version: no release may change its judge unseen."""
    try:
        package = metadata.distribution("nudenet")
    except metadata.PackageNotFoundError:
        return "unknown"
    total = hashlib.sha256(package.version.encode())
    for file in sorted(package.files or [], key=str):
        if file.suffix == ".onnx":
            total.update(Path(str(file.locate())).read_bytes())
    return total.hexdigest()
