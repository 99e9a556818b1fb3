"""Any image classifier in ONNX, with a file that names its outputs, as a detector."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from safeflux.errors import StageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Scores = Literal["softmax", "sigmoid", "none"]
MEAN = (0.485, 0.456, 0.406)  # and deviation of ImageNet's pictures, which most classifiers are fed by
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class OnnxClassifier:
    """A ``Detector`` for the names in a classifier's labels file: fires where the label's score is above ``threshold`` (0..1)."""

    session: Any
    name: str
    threshold: float
    digest: str
    labels: tuple[str, ...]
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scores: Scores
    batch: int

    def __call__(self, images: NDArray[np.uint8], label: str) -> NDArray[np.bool_]:
        """Pictures [N, H, W, 3] to [N]. Raises StageError for a label that the file does not have."""
        if label not in self.labels:
            raise StageError(f"the detector {self.name} does not know {label!r}; it knows {', '.join(self.labels[:20])}")
        fires: NDArray[np.bool_] = self.probabilities(images)[:, self.labels.index(label)] > self.threshold
        return fires

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """[N, H, W, 3] to scores [N, labels] of 0..1."""
        given = self.session.get_inputs()[0].name
        parts = [np.zeros((0, len(self.labels)))]
        for start in range(0, len(images), self.batch):
            out = np.asarray(self.session.run(None, {given: self._input(images[start : start + self.batch])})[0], dtype=np.float64)
            if out.ndim != 2 or out.shape[1] != len(self.labels):
                raise StageError(f"{self.name} gives {list(out.shape)} numbers; wanted one for each of its {len(self.labels)} labels")
            parts.append(_probabilities(out, self.scores))
        return np.concatenate(parts)

    def _input(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[N, H, W, 3] to [N, 3, h, w], scaled, then (x / 255 - mean) / std."""
        from PIL import Image

        height, width = self.size
        scaled = np.stack([np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.BILINEAR)) for one in images])
        normal = (scaled.astype(np.float32) / 255 - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(normal.transpose(0, 3, 1, 2), dtype=np.float32)


def onnx_classifier(
    *,
    model: str = "",
    labels: str = "",
    threshold: float = 0.5,
    scores: Scores = "softmax",
    mean: tuple[float, ...] = MEAN,
    std: tuple[float, ...] = STD,
    size: int = 224,
    batch: int = 16,
) -> OnnxClassifier:
    """``model``: an ``.onnx`` file that takes pictures [N, 3, h, w] and gives a number for each label; ``labels``: a text file, a name a
    line in the order of its outputs. ``scores``: what makes probabilities of these numbers. ``size``: pixels, where the model leaves them
    open. Relative paths start where the program runs. On the CPU; nothing but what the file computes is run.

    Raises StageError where onnxruntime is not installed, or the two files cannot be read or do not fit.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise StageError('the detector onnx needs onnxruntime, which is not installed: pip install "safeflux[onnx]"') from error
    path, names_file = Path(model).expanduser(), Path(labels).expanduser()
    for option, file in (("model", path), ("labels", names_file)):
        if not file.is_file():
            raise StageError(f"the detector onnx: its option {option} is {str(file)!r}, where there is no file")
    names = tuple(line.strip() for line in names_file.read_text(encoding="utf-8").splitlines() if line.strip())
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors have no common root
        raise StageError(f"{path}: onnxruntime cannot load it: {error}") from error
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise StageError(f"the detector onnx: mean {list(mean)} and std {list(std)}; wanted three numbers each, the latter above 0")
    shape = session.get_inputs()[0].shape
    if len(shape) != 4 or shape[1] != 3:
        raise StageError(f"{path} takes {shape}; wanted pictures [N, 3, height, width]")
    height, width = (side if isinstance(side, int) else size for side in shape[2:])
    digest = hashlib.sha256(path.read_bytes() + b"\0" + names_file.read_bytes()).hexdigest()
    return OnnxClassifier(session, f"onnx {path.name}", threshold, digest, names, (height, width), tuple(mean), tuple(std), scores, batch)


def _probabilities(out: NDArray[np.float64], scores: Scores) -> NDArray[np.float64]:
    if scores == "softmax":
        powers = np.exp(out - out.max(axis=1, keepdims=True))
        softmax: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return softmax
    return 1 / (1 + np.exp(-out)) if scores == "sigmoid" else out
