"""A classifier in ONNX, written here by hand: it answers with the mean of each colour of what it is fed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from safeflux.detectors.onnx_classifier import _probabilities, onnx_classifier
from safeflux.errors import StageError

onnxruntime = pytest.importorskip("onnxruntime", reason='needs the extra "onnx"')


def _field(number: int, value: bytes | int) -> bytes:
    """One field of a protocol buffer: a varint or bytes."""

    def varint(n: int) -> bytes:
        return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)

    return varint(number << 3) + varint(value) if isinstance(value, int) else varint(number << 3 | 2) + varint(len(value)) + value


def _tensor(name: str, shape: Sequence[int | str]) -> bytes:
    """A ValueInfoProto of floats."""
    sides = b"".join(_field(1, _field(1, side) if isinstance(side, int) else _field(2, side.encode())) for side in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _field(1, 1) + _field(2, sides)))


def _means(side: int | str) -> bytes:
    """ModelProto: ReduceMean of "x" [N, 3, side, side] over its last two axes, to "y" [N, 3]."""
    axes = _field(1, b"axes") + b"".join(_field(8, axis) for axis in (2, 3)) + _field(20, 7)
    keep = _field(1, b"keepdims") + _field(3, 0) + _field(20, 2)
    node = _field(1, b"x") + _field(2, b"y") + _field(4, b"ReduceMean") + _field(5, axes) + _field(5, keep)
    graph = _field(1, node) + _field(2, b"means") + _field(11, _tensor("x", ["n", 3, side, side])) + _field(12, _tensor("y", ["n", 3]))
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, b"") + _field(2, 13))


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "means.onnx").write_bytes(_means(8))
    (tmp_path / "labels.txt").write_text("red\ngreen\n\nblue\n", encoding="utf-8")
    return str(tmp_path / "means.onnx"), str(tmp_path / "labels.txt")


def pictures() -> np.ndarray:
    """A red, a green, a grey picture [3, 20, 20, 3]."""
    found = np.zeros((3, 20, 20, 3), np.uint8)
    found[0, ..., 0] = found[1, ..., 1] = 255
    found[2] = 100
    return found


def test_fires_where_the_score_is_above_the_threshold(files: tuple[str, str]) -> None:
    detect = onnx_classifier(model=files[0], labels=files[1], scores="none", mean=(0.0,) * 3, std=(1.0,) * 3, batch=2)
    assert detect.labels == ("red", "green", "blue")
    assert detect.size == (8, 8)
    assert detect(pictures(), "red").tolist() == [True, False, False]
    assert detect(pictures(), "green").tolist() == [False, True, False]
    assert detect.probabilities(pictures())[2] == pytest.approx([100 / 255] * 3, abs=1e-6)
    assert detect(pictures()[:0], "red").shape == (0,)


def test_pictures_are_normalised_and_scores_made_probabilities(files: tuple[str, str]) -> None:
    detect = onnx_classifier(model=files[0], labels=files[1], mean=(0.5,) * 3, std=(0.25,) * 3)
    logits = np.array([[2.0, -2.0, -2.0]])
    assert detect.probabilities(pictures()[:1]) == pytest.approx(np.exp(logits) / np.exp(logits).sum(), abs=1e-6)
    assert _probabilities(logits, "sigmoid") == pytest.approx(1 / (1 + np.exp(-logits)))


def test_what_does_not_fit_is_refused(files: tuple[str, str], tmp_path: Path) -> None:
    detect = onnx_classifier(model=files[0], labels=files[1])
    with pytest.raises(StageError, match="does not know 'sword'; it knows red, green, blue"):
        detect(pictures(), "sword")
    (tmp_path / "two.txt").write_text("red\ngreen\n", encoding="utf-8")
    with pytest.raises(StageError, match="wanted one for each of its 2 labels"):
        onnx_classifier(model=files[0], labels=str(tmp_path / "two.txt"))(pictures(), "red")
    with pytest.raises(StageError, match=r"its option model is '.*nowhere', where there is no file"):
        onnx_classifier(model=str(tmp_path / "nowhere"), labels=files[1])
    with pytest.raises(StageError, match="onnxruntime cannot load it"):
        onnx_classifier(model=files[1], labels=files[1])


def test_the_digest_names_weights_and_labels(files: tuple[str, str]) -> None:
    one = onnx_classifier(model=files[0], labels=files[1]).digest
    Path(files[1]).write_text("red\nblue\ngreen\n", encoding="utf-8")
    assert onnx_classifier(model=files[0], labels=files[1]).digest != one


def test_the_side_is_the_option_s_where_the_model_leaves_it_open(tmp_path: Path, files: tuple[str, str]) -> None:
    (tmp_path / "open.onnx").write_bytes(_means("side"))
    assert onnx_classifier(model=str(tmp_path / "open.onnx"), labels=files[1], size=16).size == (16, 16)
