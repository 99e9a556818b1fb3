"""The release as a diffusers directory, for ``FluxPipeline.from_pretrained`` and whatever else reads one."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

from safeflux.errors import StageError
from safeflux.files import digest
from safeflux.types import KEPT, Progress

log = logging.getLogger(__name__)

_BAKED = ("transformer", "model_index.json")  # all else in a release is the base's, byte for byte
_BESIDE = ("LICENSE", "LICENCE", "NOTICE", "GENERATION_CONFIG.JSON")  # files at the top that go along, by how their names begin
_PICKLED = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")


def diffusers(baked: Path, out: Path, *, base: Path, progress: Progress | None = None) -> list[Path]:
    """Write the pipeline to ``out``: ``transformer/``, ``model_index.json`` and ``KEPT``, if there, from ``baked``, all else from ``base``.

    All else is the directories that the index names, licences, notices and how the model wants to be sampled, copied byte for
    byte: loading and saving them again would break older readers. Left behind is what else lies beside them: a repository often
    holds the whole unerased model a second time, as one file, and pickled weights, which can run code when they are opened.
    Returns what was written.

    Raises StageError when there is no readable ``model_index.json``, or a directory that it names is missing or empty.
    """
    written: list[Path] = []
    files = _pipeline_files(baked, base)
    for origin, name in files:
        if progress:
            progress("diffusers", len(written), len(files))
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(origin / name, target)  # a copy of its own: a change to the base must never reach a release
        written.append(target)
    return written


def preserved(base: Path) -> dict[str, str]:
    """SHA-256 of every file of ``base`` that a release holds unchanged, by its path."""
    return {name.as_posix(): digest(base / name) for _, name in _pipeline_files(base, base) if name.parts[0] not in _BAKED}


def _pipeline_files(baked: Path, base: Path) -> list[tuple[Path, Path]]:
    """Every file of the pipeline: the directory it comes from, and its path in there."""
    index = baked / "model_index.json"
    try:
        entries = json.loads(index.read_text(encoding="utf-8")).items()
    except (OSError, ValueError, AttributeError) as error:
        raise StageError(f"{index} is not the index of a diffusers pipeline: {error}") from error
    files = [(baked, Path(name)) for name in (index.name, KEPT) if (baked / name).is_file()]
    files += [(base, Path(path.name)) for path in sorted(base.iterdir()) if path.is_file() and path.name.upper().startswith(_BESIDE)]
    for name, value in sorted(entries):
        if name.startswith("_") or not isinstance(value, list) or value[:1] == [None]:
            continue  # a setting of the pipeline, or a component it does without
        if not name.isidentifier():
            raise StageError(f"{index} names {name!r}; a component is an argument of the pipeline and a directory beside the index")
        origin = baked if name in _BAKED else base
        inside = [path.relative_to(origin) for path in sorted((origin / name).rglob("*")) if path.is_file()]
        if not inside:
            raise StageError(f"{index} names {name!r}, but there are no files in {origin / name}")
        for path in inside:
            if path.suffix in _PICKLED:
                log.warning("%s is left out: pickled weights can run code when they are opened", path)
            else:
                files.append((origin, path))
    return files
