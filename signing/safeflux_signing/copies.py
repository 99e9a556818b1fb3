"""Private copies of the files of a verified release, so that what is used is what was hashed.

A file that was verified can be exchanged before it is opened again, and even a mapped file still changes when somebody
writes to it. So a copy is made where nobody else can write, and it is the copy that is hashed.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from safeflux_signing import tree
from safeflux_signing.errors import refusal
from safeflux_signing.manifest import Entry

if hasattr(os, "memfd_create"):
    import fcntl

    _SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    _PATH = "/proc/self/fd/{}"
else:
    _PATH = "/dev/fd/{}"


@contextmanager
def sealed(root: int, entry: Entry) -> Iterator[str]:
    """The path of a copy of ``entry``'s file in the open directory ``root``, with the content that was signed.

    On Linux the copy is a memory file that the kernel lets nobody change any more, this process included; it is sealed
    first and hashed then. Elsewhere it is a temporary file without a name, readable by its owner only. The path is good
    within the context and for this process; what was mapped from it stays as long as the mapping.

    Raises TamperedError (file-changed) if the file is no longer the signed one, UnsafeReleaseError (unreadable).
    """
    copy = _anonymous(entry.name)
    try:
        _fill(copy, root, entry.name)
        _check(entry, _digest(copy))
        os.lseek(copy, 0, os.SEEK_SET)  # where opening the path only duplicates the descriptor
        yield _PATH.format(copy)
    finally:
        os.close(copy)


def content(root: int, entry: Entry, limit: int) -> bytes:
    """The content of ``entry``'s file, at most ``limit`` bytes, if it is what was signed. Raises as ``sealed`` does, and too-large."""
    parts, left = [], limit
    for part in _parts(root, entry.name):
        parts.append(bytes(part))
        left -= len(part)
        if left < 0:
            raise refusal("too-large", entry.name, "larger than any honest file of this kind", expected=f"at most {limit} bytes")
    data = b"".join(parts)
    _check(entry, hashlib.sha256(data).hexdigest())
    return data


def _anonymous(name: str) -> int:
    """A new file in memory, or one on the disk that has no name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name.rsplit("/", 1)[-1][:64], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _fill(copy: int, root: int, name: str) -> None:
    for part in _parts(root, name):
        while part:
            part = part[os.write(copy, part) :]
    if hasattr(os, "memfd_create"):
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, _SEALS)


def _digest(file: int) -> str:
    digest, buffer, place = hashlib.sha256(), bytearray(tree.CHUNK), 0
    view = memoryview(buffer)
    while got := os.preadv(file, [buffer], place):
        digest.update(view[:got])
        place += got
    return digest.hexdigest()


def _parts(root: int, name: str) -> Iterator[memoryview]:
    """The file's content piece by piece; a piece is good until the next one is asked for."""
    buffer = bytearray(tree.CHUNK)
    view = memoryview(buffer)
    try:
        with tree.open_below(root, name, tree.FILE) as file:
            tree.require_regular(file)
            while got := os.readv(file, [buffer]):
                yield view[:got]
    except OSError as error:
        raise refusal("unreadable", name, f"cannot read the file: {error.strerror or error}") from error


def _check(entry: Entry, digest: str) -> None:
    if digest != entry.sha256:
        raise refusal("file-changed", entry.name, "the content was changed after it had been checked", expected=entry.sha256, actual=digest)
