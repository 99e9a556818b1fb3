"""Pictures of the drawn world of which it is known what they show: what a detector's mistakes are counted on."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np

from safeflux.mini.captions import random_scene
from safeflux.mini.world import LABELS, Scene, render

if TYPE_CHECKING:
    from numpy.typing import NDArray


def labelled(label: str, n: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """``n`` pictures [n, SIZE, SIZE, 3] that show ``label``, and as many that do not, both as common scenes are.

    Drawn by the world's own pen, not by a model, so they are cleaner than what a detector meets in an audit. Raises ValueError for a label
    that the world does not have.
    """
    if label not in LABELS:
        raise ValueError(f"the drawn world has no {label!r}; it has {', '.join(LABELS)}")
    rng = random.Random(f"{seed}/{label}/labelled")
    shown: list[Scene] = []
    others: list[Scene] = []
    while min(len(shown), len(others)) < n:
        scene = random_scene(rng)[0]
        (shown if label in scene.labels else others).append(scene)
    pens = random.Random(f"{seed}/{label}/pens")
    first, second = (np.stack([render(scene, pens) for scene in scenes[:n]]) for scenes in (shown, others))
    return first, second
