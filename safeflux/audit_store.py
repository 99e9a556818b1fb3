"""What an audit has drawn, kept so that a killed audit does not draw it again."""

from __future__ import annotations

import json
import logging
import os
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from safeflux.types import Prompt, Sample

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Spent:
    """What drawing took: ``evaluations`` of the model (one picture, one step, forward or back) and ``seconds`` of this machine."""

    evaluations: int = 0
    seconds: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.evaluations + other.evaluations, self.seconds + other.seconds)


Drawn = tuple[list[Sample], Spent]


class Drawings:
    """Sets of samples by key: in ``directory``, one ``.npz`` each (images [N, H, W, 3] uint8, latents [M, tokens, channels] of those that
    have them, and JSON of the rest), or in memory.

    A set that is not whole yet lies there in numbered parts.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._held: dict[str, Drawn] = {}

    def has(self, key: str) -> bool:
        """Whether ``key`` is kept whole, without reading it."""
        return key in self._held if self._directory is None else zipfile.is_zipfile(self._path(self._directory, key))

    def get(self, key: str) -> list[Sample] | None:
        """The samples of ``key``, or None where there are none that can be read."""
        drawn = self._held.get(key) if self._directory is None else _read(self._path(self._directory, key))
        return None if drawn is None else drawn[0]

    def spent(self, key: str) -> Spent:
        """What drawing ``key`` took; nothing where it is not kept. The pictures are not read for it."""
        drawn = self._held.get(key) if self._directory is None else _read(self._path(self._directory, key), pictures=False)
        return Spent() if drawn is None else drawn[1]

    def put(self, key: str, samples: Sequence[Sample], spent: Spent = Spent()) -> None:
        """Keep ``samples`` as the whole set; the file appears under its name only when it is whole, and its parts go."""
        if self._directory is None:
            self._held[key] = list(samples), spent
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        _write(self._path(self._directory, key), samples, spent)
        for part in self._parts(key):
            part.unlink()

    def begun(self, key: str) -> Drawn:
        """What an interrupted run drew of ``key``, in order, and what that took."""
        samples, spent = list[Sample](), Spent()
        for path in self._parts(key):
            if (read := _read(path)) is None:
                break  # what comes after a hole could not be told from what is missing
            samples, spent = samples + read[0], spent + read[1]
        return samples, spent

    def add(self, key: str, samples: Sequence[Sample], spent: Spent) -> None:
        """Keep ``samples`` as the next part of a set that is not whole yet. In memory nothing is: it would not outlive the run."""
        if self._directory is not None and samples:
            self._directory.mkdir(parents=True, exist_ok=True)
            _write(self._path(self._directory, key).with_suffix(f".part-{len(self._parts(key)):05}.npz"), samples, spent)

    def _parts(self, key: str) -> list[Path]:
        return [] if self._directory is None else sorted(self._directory.glob(f"{self._path(self._directory, key).stem}.part-*.npz"))

    @staticmethod
    def _path(directory: Path, key: str) -> Path:
        return directory / f"drawn-{key[:32]}.npz"


def _write(path: Path, samples: Sequence[Sample], spent: Spent) -> None:
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    images = np.stack([s.image for s in samples]) if samples else np.zeros((0, 1, 1, 3), np.uint8)
    having = [i for i, s in enumerate(samples) if s.latents is not None]
    latents = np.stack([s.latents for s in samples if s.latents is not None]) if having else np.zeros((0, 1, 1), np.float32)
    told = [{"prompt": asdict(s.prompt), "seed": s.seed, "attack": s.attack} for s in samples]
    rest = {"samples": told, "latents": having, "spent": asdict(spent)}
    with partial.open("wb") as file:
        np.savez_compressed(file, images=images, latents=latents, rest=np.array(json.dumps(rest)))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _read(path: Path, *, pictures: bool = True) -> Drawn | None:
    """None where there is nothing that can be read. Without ``pictures`` no samples."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            rest = json.loads(str(file["rest"]))
            images, kept = (file["images"], rest["samples"]) if pictures else ((), ())
            latents = dict(zip(rest["latents"], file["latents"], strict=True)) if pictures else {}
        samples = [_sample(image, one, latents.get(i)) for i, (image, one) in enumerate(zip(images, kept, strict=True))]
        return samples, Spent(**rest["spent"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        log.warning("%s cannot be read (%s); it is drawn again", path, error)
        return None


def _sample(image: NDArray[np.uint8], rest: dict[str, object], latents: NDArray[np.float32] | None) -> Sample:
    prompt = rest["prompt"]
    assert isinstance(prompt, dict)
    made = Prompt(**prompt | {"expects": tuple(prompt["expects"])})
    return Sample(image, made, int(str(rest["seed"])), str(rest["attack"]), latents)
