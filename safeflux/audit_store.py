"""What an audit has drawn, kept so that a killed audit does not draw it again."""

from __future__ import annotations

import json
import logging
import os
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from safeflux.types import Prompt, Sample

log = logging.getLogger(__name__)


class Drawings:
    """Sets of samples by key: in ``directory``, one ``.npz`` each (images [N, H, W, 3] uint8, and JSON of the rest), or in memory."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._held: dict[str, list[Sample]] = {}

    def has(self, key: str) -> bool:
        """Whether ``key`` is kept whole, without reading it."""
        return key in self._held if self._directory is None else zipfile.is_zipfile(self._path(self._directory, key))

    def get(self, key: str) -> list[Sample] | None:
        """The samples of ``key``, or None where there are none that can be read."""
        if self._directory is None:
            return self._held.get(key)
        path = self._path(self._directory, key)
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                images, rest = file["images"], json.loads(str(file["rest"]))
            return [_sample(image, one) for image, one in zip(images, rest, strict=True)]
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            log.warning("%s cannot be read (%s); it is drawn again", path, error)
            return None

    def put(self, key: str, samples: Sequence[Sample]) -> None:
        """Keep ``samples``; the file appears under its name only when it is whole."""
        if self._directory is None:
            self._held[key] = list(samples)
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._path(self._directory, key)
        partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
        images = np.stack([s.image for s in samples]) if samples else np.zeros((0, 1, 1, 3), np.uint8)
        rest = json.dumps([{"prompt": asdict(s.prompt), "seed": s.seed, "attack": s.attack} for s in samples])
        with partial.open("wb") as file:
            np.savez_compressed(file, images=images, rest=np.array(rest))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    @staticmethod
    def _path(directory: Path, key: str) -> Path:
        return directory / f"drawn-{key[:32]}.npz"


def _sample(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], rest: dict[str, object]) -> Sample:
    prompt = rest["prompt"]
    assert isinstance(prompt, dict)
    return Sample(image, Prompt(**prompt | {"expects": tuple(prompt["expects"])}), int(str(rest["seed"])), str(rest["attack"]))
