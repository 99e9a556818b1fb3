"""The release as a diffusers directory, for ``FluxPipeline.from_pretrained`` and whatever else reads one."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

from safeflux.errors import StageError

log = logging.getLogger(__name__)

CHANGED = ("transformer", "model_index.json")  # all else in a release is the base's, byte for byte
_LEGAL = ("LICENSE", "LICENCE", "NOTICE")
_PICKLED = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")


def diffusers(baked: Path, out: Path) -> list[Path]:
    """Copy what makes up the pipeline in ``baked`` to ``out``; returns the files written.

    That is ``model_index.json``, the directories it names, licences and notices; nothing is loaded and saved again, which
    would break older readers. Left behind is what else lies beside them: a repository often holds the whole unerased model
    a second time, as one file, and pickled weights, which can run code when they are opened.

    Raises StageError when ``baked`` has no readable ``model_index.json``, or a directory it names is missing or empty.
    """
    written = []
    for source in _pipeline_files(baked):
        target = out / source.relative_to(baked)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)  # a copy of its own: a change to the base must never reach a release
        written.append(target)
    return written


def _pipeline_files(baked: Path) -> list[Path]:
    index = baked / "model_index.json"
    try:
        entries = json.loads(index.read_text(encoding="utf-8")).items()
    except (OSError, ValueError, AttributeError) as error:
        raise StageError(f"{index} is not the index of a diffusers pipeline: {error}") from error
    files = [index, *(path for path in sorted(baked.iterdir()) if path.is_file() and path.name.upper().startswith(_LEGAL))]
    for name, value in sorted(entries):
        if name.startswith("_") or not isinstance(value, list) or value[:1] == [None]:
            continue  # a setting of the pipeline, or a component it does without
        if not name.isidentifier():
            raise StageError(f"{index} names {name!r}; a component is an argument of the pipeline and a directory beside the index")
        inside = [path for path in sorted((baked / name).rglob("*")) if path.is_file()]
        if not inside:
            raise StageError(f"{index} names {name!r}, but there are no files in {baked / name}")
        for path in inside:
            if path.suffix in _PICKLED:
                log.warning("%s is left out: pickled weights can run code when they are opened", path.relative_to(baked))
            else:
                files.append(path)
    return files
