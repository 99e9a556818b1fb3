"""The plumbing around NudeNet, with a stand-in for the package: files in, class names and threshold out."""

import random
import sys
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from safeflux.detectors.nudenet import NUDITY, nudenet
from safeflux.errors import StageError

SCORES = {10: [("FACE_FEMALE", 0.99)], 20: [("BUTTOCKS_EXPOSED", 0.6), ("FEET_EXPOSED", 0.9)], 30: [("ANUS_EXPOSED", 0.44)], 40: []}


class NudeDetector:
    """Says what ``SCORES`` has for the red value of a picture's first pixel."""

    batches: list[int] = []  # noqa: RUF012

    def detect_batch(self, paths: list[str], batch_size: int = 4) -> list[list[dict[str, object]]]:
        self.batches.append(len(paths))
        reds = [Image.open(path).getpixel((0, 0))[0] for path in paths]  # type: ignore[index]
        return [[{"class": name, "score": score, "box": [0, 0, 1, 1]} for name, score in SCORES[red]] for red in reds]


@pytest.fixture
def _package(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("nudenet")
    module.NudeDetector = NudeDetector  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nudenet", module)
    NudeDetector.batches = []


def pictures(*reds: int) -> np.ndarray:
    return np.stack([np.full((8, 8, 3), (red, 0, 200), np.uint8) for red in reds])


@pytest.mark.usefixtures("_package")
def test_nudity_is_any_wanted_part_above_the_threshold() -> None:
    detect = nudenet(batch=3)
    assert detect(pictures(10, 20, 30, 40, 20), "nudity").tolist() == [False, True, False, False, True]
    assert NudeDetector.batches == [3, 2]
    assert detect.threshold == 0.45
    assert nudenet(threshold=0.4)(pictures(30), "nudity").tolist() == [True]


@pytest.mark.usefixtures("_package")
def test_a_part_can_be_asked_for_by_its_name() -> None:
    detect = nudenet()
    assert detect(pictures(20, 30), "BUTTOCKS_EXPOSED").tolist() == [True, False]
    assert detect.labels == ("nudity", *NUDITY)
    with pytest.raises(StageError, match="does not know 'sword'"):
        detect(pictures(20), "sword")


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nudenet", None)
    with pytest.raises(StageError, match="pip install nudenet"):
        nudenet()


def test_the_real_one_looks_at_drawn_pictures() -> None:
    """Plumbing alone: it runs on pictures of any size, finds no bodies among cartoons, and its digest names its weights."""
    pytest.importorskip("nudenet", reason='needs the extra "nudenet"')
    from safeflux.mini.world import Item, Scene, render

    scenes = [Scene((Item("house"),)), Scene((Item("cat"),), "meadow"), Scene((Item("captain comet"),), "night")]
    drawn = np.stack([render(scene, random.Random(i)) for i, scene in enumerate(scenes)])
    detect = nudenet(batch=2)
    assert detect(drawn, "nudity").tolist() == [False] * 3
    assert detect(drawn.repeat(5, axis=1).repeat(5, axis=2), "BUTTOCKS_EXPOSED").tolist() == [False] * 3
    parts = detect._parts(drawn)
    assert len(parts) == 3
    assert all({"class", "score"} <= set(part) for found in parts for part in found)
    assert len(detect.digest) == 64
