"""The masks alone: what a release closed, as a small file to be baked again into the same base."""

from __future__ import annotations

from pathlib import Path

from safeflux.edits import read_mask, save_edit
from safeflux.errors import StageError
from safeflux.plan.base import directory_digest
from safeflux.types import Progress

FILE = "masks.safetensors"


def delta(baked: Path, out: Path, *, base: Path, progress: Progress | None = None) -> list[Path]:
    """Write the masks that were baked into the weights of ``baked``, read back from them, with the digest of ``base`` they belong to.

    For those who have the base: ``safeflux bake --masks`` makes the release's transformer of the two. Raises ModelError where the weights
    are not the base's under any mask (of another method, or with neurons cut out), StageError where ``base`` is the release itself.
    """
    if baked.resolve() == base.resolve():
        raise StageError(f"{base} is the release itself; masks are told from the model they were baked into: name it with --base")
    if progress:
        progress(FILE, 0, 1)
    masks = read_mask(base / "transformer", baked / "transformer")
    save_edit(masks, out / FILE, {"base": directory_digest(base)})
    return [out / FILE]
