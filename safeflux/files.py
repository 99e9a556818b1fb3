"""Files and directories: told apart by digest, written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path

from safeflux.errors import WorkspaceError


def source_digest(*paths: Path) -> str:
    """sha256 over the files in ``paths`` (files or directories): a changed line of code redoes the stages it could have changed."""
    total = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                total.update(f"{file.relative_to(path.parent).as_posix()}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def digest(path: Path) -> str:
    """sha256 (hex) of one file, of whatever size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree(directory: Path, *, sync: bool = False) -> dict[str, str]:
    """sha256 of every file under ``directory`` by relative path. ``sync`` also has them written through to the disk.

    Raises WorkspaceError for anything that is neither a file nor a directory: a link could lead out of it.
    """
    files: dict[str, str] = {}
    for path in sorted(directory.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            continue
        if not stat.S_ISREG(mode):
            raise WorkspaceError(f"{path} is a link or a special file; a workspace holds plain files only: remove it")
        if sync:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        files[path.relative_to(directory).as_posix()] = digest(path)
    return files


def write_atomic(path: Path, text: str) -> None:
    """Write ``text`` so that ``path`` is at every moment absent, the old file or the whole new one."""
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_directory(path.parent)


def discard(path: Path) -> None:
    """Remove a file, a link or a whole directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Have the names in ``directory`` written through to the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
