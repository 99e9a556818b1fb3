from pathlib import Path

import numpy as np
import pytest

from safeflux.detectors.mini import MiniDetector, mini
from safeflux.errors import StageError
from safeflux.mini import detector
from safeflux.mini.world import LABELS


def scores(images: np.ndarray) -> np.ndarray:
    """Each picture's red value, in percent, is the score of the sword; all else is 0."""
    out = np.zeros((len(images), len(LABELS)), np.float32)
    out[:, LABELS.index("sword")] = images[:, 0, 0, 0] / 100
    return out


def test_it_fires_above_its_threshold_on_its_label_alone() -> None:
    detect = MiniDetector("mini", 0.5, "d", scores)
    images = np.stack([np.full((64, 64, 3), red, np.uint8) for red in (10, 50, 51, 90)])
    assert detect(images, "sword").tolist() == [False, False, True, True]
    assert not detect(images, "cross").any()
    assert detect.labels == LABELS


def test_a_label_outside_the_world_is_refused() -> None:
    with pytest.raises(StageError, match="does not know 'unicorn'"):
        MiniDetector("mini", 0.5, "d", scores)(np.zeros((1, 64, 64, 3), np.uint8), "unicorn")


def test_missing_weights_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(detector, "DIRECTORY", tmp_path)
    with pytest.raises(StageError, match=r"judge\.safetensors is missing"):
        mini()
