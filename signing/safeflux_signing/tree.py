"""The closed world on disk: every file below a directory, opened without following links, hashed through what was opened.

All paths are opened part by part from one open root (openat with O_NOFOLLOW), so nobody can swap a directory for a link
between the look and the read; this needs a POSIX system. A file that has another name outside of the directory (a hard link, as
``cp -al`` makes them) is refused like a link: whoever may write there changes the release. Two names of one file inside are two files.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safeflux_signing import names
from safeflux_signing.errors import Finding, found, refusal

CHUNK = 1 << 22  # bytes read at a time: few enough to stay in a cache, many enough that other threads hash meanwhile
NOT_A_FILE = "not a regular file"
MAX_DEPTH = names.MAX_PARTS

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # NONBLOCK: never hang on a pipe put in a file's place

Progress = Callable[[int, int], None]
"""Called with (bytes hashed so far, bytes in all), from worker threads but never from two at once."""


@dataclass(frozen=True)
class Scan:
    """What lies below a directory: ``sizes`` in bytes by name, side files left out; ``findings`` for what may not be there."""

    sizes: Mapping[str, int]
    findings: tuple[Finding, ...]


@contextmanager
def opened(directory: Path) -> Iterator[int]:
    """A descriptor of ``directory``, which itself may be a link: that is the caller's own choice. Raises InputError."""
    try:
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise refusal("directory-unreadable", str(directory), f"cannot open the directory: {error.strerror}") from error
    try:
        yield root
    finally:
        os.close(root)


def scan(root: int) -> Scan:
    """Walk everything below the open directory ``root``. Never raises for what it meets: that is in the findings."""
    sizes: dict[str, int] = {}
    shared: dict[str, os.stat_result] = {}
    findings: list[Finding] = []
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        if folder.count("/") >= MAX_DEPTH:
            findings.append(found("too-deep", folder, f"directories nested deeper than {MAX_DEPTH}"))
            continue
        try:
            entries = _entries(root, folder)
        except OSError as error:
            findings.append(found("unreadable", folder or ".", f"cannot read the directory: {error.strerror}"))
            continue
        if not entries and folder:
            findings.append(found("empty-directory", folder, "an empty directory"))
        for name, status in entries:
            path = f"{folder}/{name}" if folder else name
            if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                shared[path] = status
            if stat.S_ISDIR(status.st_mode) and not names.reserved(path):
                waiting.append(path)
            elif not (finding := _complaint(path, status)):
                sizes[path] = status.st_size
            else:
                findings.append(finding)
    pairs = names.collisions(sizes)
    findings += [found("name-collision", b, "a name that some file systems take for another", expected=a, actual=b) for a, b in pairs]
    findings += _linked_out(shared)
    sizes = {path: sizes[path] for path in sorted(sizes) if path not in names.SIDE_FILES}
    return Scan(sizes, tuple(sorted(findings, key=lambda finding: finding.file)))


def digests(root: int, sizes: Mapping[str, int], progress: Progress | None = None) -> tuple[dict[str, str], list[Finding]]:
    """SHA-256, in hex, of each file named in ``sizes``; files hashed side by side (hashlib lets go of the interpreter lock).

    Returns the digests by name, and findings for what could not be read or changed under the hand.
    """
    total, done, lock, stop = sum(sizes.values()), 0, threading.Lock(), threading.Event()

    def advance(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            if progress:
                progress(done, total)

    def one(name: str) -> str | Finding:
        try:
            return _digest(root, name, sizes[name], advance, stop)
        except OSError as error:
            return found("unreadable", name, f"cannot read the file: {error.strerror or error}")

    # The largest first: a big file started last would run alone.
    order = sorted(sizes, key=lambda name: -sizes[name])
    with ThreadPoolExecutor(max(1, min(len(order), cores()))) as pool:
        try:
            results = dict(zip(order, pool.map(one, order), strict=True))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    good = {name: results[name] for name in sizes}
    return (
        {name: digest for name, digest in good.items() if isinstance(digest, str)},
        [finding for finding in good.values() if isinstance(finding, Finding)],
    )


def read(root: int, name: str, limit: int) -> bytes | None:
    """The content of a small file at the top of ``root``, or None if there is no such entry.

    Raises UnsafeReleaseError: symlink, special-file, too-large, unreadable.
    """
    try:
        file = os.open(name, FILE, dir_fd=root)
    except FileNotFoundError:
        return None
    except OSError as error:
        if _is_link(root, name):
            raise refusal("symlink", name, "a symbolic link") from None
        raise refusal("unreadable", name, f"cannot open the file: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise refusal("special-file", name, NOT_A_FILE)
        with os.fdopen(file, "rb", closefd=False) as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise refusal("unreadable", name, f"cannot read the file: {error.strerror}") from error
    finally:
        os.close(file)
    if len(data) > limit:
        raise refusal("too-large", name, "larger than any honest file of this kind", expected=f"at most {limit} bytes")
    return data


@contextmanager
def open_below(root: int, name: str, flags: int) -> Iterator[int]:
    """A descriptor of the entry ``name`` ("a/b/c"), no part of which is a link. Raises OSError."""
    *folders, last = name.split("/") if name else ["."]
    at = os.dup(root)
    try:
        for folder in folders:
            below = os.open(folder, _DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        entry = os.open(last, flags, dir_fd=at)
    finally:
        os.close(at)
    try:
        yield entry
    finally:
        os.close(entry)


def require_regular(file: int) -> None:
    """Raise OSError unless the open ``file`` is a plain file."""
    if not stat.S_ISREG(os.fstat(file).st_mode):
        raise OSError("no longer a regular file")


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _entries(root: int, folder: str) -> list[tuple[str, os.stat_result]]:
    with open_below(root, folder, _DIRECTORY) as at, os.scandir(at) as entries:
        return sorted(((entry.name, entry.stat(follow_symlinks=False)) for entry in entries), key=lambda pair: pair[0])


def _complaint(path: str, status: os.stat_result) -> Finding | None:
    """What is wrong with an entry that is not a directory to be walked."""
    if path.split("/", 1)[0] == names.RESERVED:
        return found("name-reserved", path, "a reserved name")
    if stat.S_ISLNK(status.st_mode):
        return found("symlink", path, "a symbolic link")
    if not stat.S_ISREG(status.st_mode):
        return found("special-file", path, NOT_A_FILE)
    if wrong := names.complaint(path):
        code, why = wrong
        return found(code, path, why)
    return None


def _linked_out(shared: Mapping[str, os.stat_result]) -> Iterator[Finding]:
    """The files, of those with several names, of which not all names were seen."""
    seen = Counter((status.st_dev, status.st_ino) for status in shared.values())
    for path, status in shared.items():
        here = seen[status.st_dev, status.st_ino]
        if status.st_nlink > here:
            what = "a hard link: the file has another name outside of this directory"
            yield found("hard-link", path, what, expected=f"names: {here}", actual=f"names: {status.st_nlink}")


def _is_link(root: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=root, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _digest(root: int, name: str, size: int, advance: Callable[[int], None], stop: threading.Event) -> str:
    digest, count, buffer = hashlib.sha256(), 0, bytearray(CHUNK)
    view = memoryview(buffer)
    with open_below(root, name, FILE) as file:
        require_regular(file)
        while (got := os.readv(file, [buffer])) and not stop.is_set():
            digest.update(view[:got])
            count += got
            advance(got)
    if count != size:
        raise OSError(f"it changed while it was read ({size} bytes before, {count} after)")
    return digest.hexdigest()
