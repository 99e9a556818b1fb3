"""Masks from a file, baked again into the base they belong to."""

from __future__ import annotations

import tempfile
from pathlib import Path

from safetensors import safe_open

from safeflux.bake import bake
from safeflux.edits import load_edit
from safeflux.errors import ModelError
from safeflux.exporters.diffusers import diffusers
from safeflux.plan.base import directory_digest
from safeflux.types import Masks


def read(file: Path, base: Path) -> Masks:
    """The masks in ``file``, if they belong to the model in the directory ``base``.

    Raises ModelError for a file that holds no masks, and for another base than they were made for, where places mean nothing.
    """
    masks = load_edit(file)
    if not isinstance(masks, Masks):
        raise ModelError(f"{file} holds an edit of kind {type(masks).__name__}; wanted masks, as the exporter delta writes them")
    with safe_open(file, "pt") as opened:
        wanted = (opened.metadata() or {}).get("base")
    if wanted is None:
        raise ModelError(f"{file} does not say which base its masks belong to; wanted a file of the exporter delta")
    if (found := directory_digest(base)) != wanted:
        raise ModelError(f"{file} belongs to a base with digest {wanted}; {base} has {found}: name the very model it was made from")
    return masks


def apply(file: Path, base: Path, out: Path) -> None:
    """Write into the empty or absent directory ``out`` the pipeline that the masks in ``file`` make of ``base``.

    It is the release's, byte for byte, but for what the release says of itself. Raises what ``read`` does; ModelError if ``out`` has files.
    """
    if out.exists() and any(out.iterdir()):
        raise ModelError(f"{out} is not empty; wanted a new directory")
    masks = read(file, base)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".baking-", dir=out) as baked:  # beside its copy, where there is room for one
        bake(base, masks, Path(baked) / "model")
        diffusers(Path(baked) / "model", out, base=base)
