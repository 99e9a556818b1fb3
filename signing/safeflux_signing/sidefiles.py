"""The files beside those that are signed, put into an open directory: signatures and claims, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable

from safeflux_signing.errors import refusal


def fresh(root: int, name: str, data: bytes) -> None:
    """Write ``data`` as the top-level file ``name``, whole or not at all: a crash leaves the old file or the new one.

    Raises InputError (directory-unwritable).
    """
    partial = partial_name(name)
    try:
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=root)
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(file)
        os.replace(partial, name, src_dir_fd=root, dst_dir_fd=root)
        os.fsync(root)
    except OSError as error:
        raise refusal("directory-unwritable", name, f"cannot write the file: {error.strerror}") from error


def remove(root: int, entries: Iterable[str]) -> None:
    """Remove top-level files; those that are not there are no matter. Raises InputError (directory-unwritable)."""
    for name in entries:
        try:
            os.unlink(name, dir_fd=root)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise refusal("directory-unwritable", name, f"cannot remove the file: {error.strerror}") from error


def partial_name(name: str) -> str:
    """Where ``fresh`` writes ``name`` before it is complete."""
    return f".{name}.partial"
