"""Small files that are read whole and written whole: keys, trust, what was seen. Reasons for refusal are the caller's."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safeflux_signing.errors import refusal


def read(path: Path, limit: int, code: str) -> bytes:
    """The content of ``path``, at most ``limit`` bytes. Raises the error of reason ``code``."""
    data = read_if_there(path, limit, code)
    if data is None:
        raise refusal(code, str(path), "there is no such file")
    return data


def read_if_there(path: Path, limit: int, code: str) -> bytes | None:
    """The same, or None if there is no such file."""
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise refusal(code, str(path), f"cannot read the file: {error.strerror}") from error
    if len(data) > limit:
        raise refusal(code, str(path), "far too large for a file of this kind", expected=f"at most {limit} bytes")
    return data


def create(path: Path, data: bytes, mode: int) -> None:
    """Write a file that must not exist yet; on failure none is left. Raises InputError: key-exists, key-unwritable."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except FileExistsError as error:
        raise refusal("key-exists", str(path), "the file exists already") from error
    except OSError as error:
        raise refusal("key-unwritable", str(path), f"cannot create the file: {error.strerror}") from error
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(file)
    except BaseException:
        path.unlink()
        raise


@contextmanager
def changing(path: Path, code: str) -> Iterator[None]:
    """Hold other processes off ``path`` while it is read, changed and replaced; makes its directory. Raises the error of ``code``.

    What is locked is a file beside it that stays: one that is replaced cannot hold a lock.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise refusal(code, str(path), f"cannot lock the file: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def replace(path: Path, data: bytes, code: str) -> None:
    """Put ``data`` in the place of ``path``, whole or not at all; a link at ``path`` stays one. Raises the error of ``code``."""
    try:
        path = path.resolve()
        partial = path.with_name(f".{path.name}.partial")
        partial.unlink(missing_ok=True)
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(file)
        partial.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise refusal(code, str(path), f"cannot write the file: {error.strerror}") from error
