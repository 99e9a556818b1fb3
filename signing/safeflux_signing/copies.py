"""Private copies of the files of a verified release, so that what is used is what was hashed.

A file that was verified can be exchanged before it is opened again, and even a mapped file still changes when somebody
writes to it. So a copy is made where nobody else can write, and it is the copy that is hashed: of the whole file, in memory that
the kernel seals, where the system has that; elsewhere of one piece after the other, each as it is asked for.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path

from safeflux_signing import tree
from safeflux_signing.errors import SigningError, refusal
from safeflux_signing.manifest import Entry

BLOCK = 1 << 20  # bytes that are hashed for a single one among them: few enough not to be felt, many enough to keep few digests

_PATH = "/proc/self/fd/{}"


@cache
def can_seal() -> bool:
    """Whether ``sealed`` works here. It does on Linux with /proc; macOS has no memory files, nor have some sandboxes."""
    try:
        with _memory("probe") as file:
            _seal(file)
            return Path(_PATH.format(file)).exists()
    except (AttributeError, OSError):
        return False


@contextmanager
def sealed(root: int, entry: Entry) -> Iterator[str]:
    """The path of a copy of ``entry``'s file in the open directory ``root``, with the content that was signed.

    The copy is a memory file that the kernel lets nobody change any more, this process included; it is sealed first and hashed
    then. The path is good within the context and for this process; what was mapped from it stays as long as the mapping.

    Raises TamperedError (file-changed) if the file is no longer the signed one, UnsafeReleaseError (unreadable).
    """
    with _memory(entry.name) as copy:
        for part in _parts(root, entry.name):
            while part:
                part = part[os.write(copy, part) :]
        _seal(copy)
        _check(entry, _digest(copy))
        yield _PATH.format(copy)


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


class Pieces:
    """``entry``'s file in the open directory ``root``, to be read in pieces: what is read is what was signed, or there is an error.

    The file stays where it is, open. It is hashed once from end to end, and the state of the hash is kept after every ``BLOCK``
    bytes. A piece is read by whole blocks into memory of its own, and each must lead the hash from the state before it to the
    state after it: other bytes that do would be a collision of SHA-256. It takes any POSIX system, and hashes what is read twice.

    ``size`` in bytes. Any number of threads may read at once. Raises as ``sealed`` does.
    """

    def __init__(self, root: int, entry: Entry) -> None:
        self.size = 0
        self._entry = entry
        with _readable(entry.name), tree.open_below(root, entry.name, tree.FILE) as file:
            tree.require_regular(file)
            self._file = os.dup(file)
        self.close = weakref.finalize(self, os.close, self._file)  # also when the last reader has let go of it
        try:
            self._states = [hashlib.sha256()]
            for number in count():
                block, state = self._block(number), self._states[-1].copy()
                state.update(block)
                self._states.append(state)
                self.size += len(block)
                if len(block) < BLOCK:
                    break
            _check(entry, self._states[-1].hexdigest())
        except BaseException:
            self.close()
            raise

    def read(self, start: int, stop: int) -> bytearray:
        """The bytes from ``start`` to before ``stop``, in new memory. Raises as making it does, and ValueError where there are none."""
        if not 0 <= start <= stop <= self.size or not self.close.alive:
            raise ValueError(f"no bytes {start} to {stop} in {self._entry.name}, of {self.size} bytes, or it was closed")
        piece = bytearray(stop - start)
        for number in range(start // BLOCK, -(-stop // BLOCK) if piece else 0):
            block, state = self._block(number), self._states[number].copy()
            state.update(block)
            if state.digest() != self._states[number + 1].digest():
                raise _changed(self._entry)
            first = number * BLOCK
            begin, end = max(start, first), min(stop, first + BLOCK)
            piece[begin - start : end - start] = memoryview(block)[begin - first : end - first]
        return piece

    def _block(self, number: int) -> bytes:
        """Whole, but for the last one of the file: a system may give less at a time than it is asked for."""
        parts, place, left = [], number * BLOCK, BLOCK
        with _readable(self._entry.name):
            while part := os.pread(self._file, left, place):
                parts.append(part)
                place, left = place + len(part), left - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


@contextmanager
def _memory(name: str) -> Iterator[int]:
    """A new file in memory. Raises AttributeError where there is no such thing."""
    file = os.memfd_create(name.rsplit("/", 1)[-1][:64], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        yield file
    finally:
        os.close(file)


def _seal(file: int) -> None:
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)


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
    with _readable(name), tree.open_below(root, name, tree.FILE) as file:
        tree.require_regular(file)
        while got := os.readv(file, [buffer]):
            yield view[:got]


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise refusal("unreadable", name, f"cannot read the file: {error.strerror or error}") from error


def _check(entry: Entry, digest: str) -> None:
    if digest != entry.sha256:
        raise _changed(entry, digest)


def _changed(entry: Entry, digest: str | None = None) -> SigningError:
    return refusal("file-changed", entry.name, "the content was changed after it had been checked", expected=entry.sha256, actual=digest)
