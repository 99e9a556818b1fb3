"""A directory of our own for what a library reads by its path, which tells afterwards whether anybody has touched what is in it.

Other users cannot enter it. Another program of the same user can, and may do there whatever we may: it is not kept out, it is
found out. Beside the content of each file there is the time at which the system last saw it changed in any way (its ctime),
and of each directory, too. No program sets that time but by changing something, so that what was changed, read and put back shows as well.
Only the directory as a whole could be moved aside and back unseen, on a system that does not count that as a change of it; Linux does.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safeflux_signing.errors import Finding, gravest

_TICK = 0.02  # seconds; the times of files are those of a clock that goes on every 10 milliseconds, or more often
_REMEDY = "Find the program that writes to this user's temporary files; the release itself was good when it was checked."


class Private:
    """Read-only files in a new directory ``path``, which is the caller's to remove."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="safeflux-"))
        self._digests: dict[str, str] = {}

    def add(self, name: str, data: bytes) -> Path:
        """The path of a new file with that content; ``name`` with "/". It can never be opened for writing unless its mode is changed."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400), "wb") as stream:
            stream.write(data)
        self._digests[name] = hashlib.sha256(data).hexdigest()
        return path

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Raises TamperedError (file-changed) if anything below was changed since it was added, or put back or added meanwhile.

        That, too, where something else failed within, as it may for that very reason.
        """
        before = self._times()
        time.sleep(_TICK)  # from here on, every change has a later time
        try:
            yield
        except Exception:
            self._require(before)
            raise
        self._require(before)

    def _require(self, before: dict[str, tuple[int, int]]) -> None:
        after = self._times()
        touched = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        touched |= {name for name, digest in self._digests.items() if name not in touched and self._digest(name) != digest}
        if touched:
            what = "its private copy was changed while the model was loaded from it"
            raise gravest(Finding(name, "file-changed", what, None, None, _REMEDY) for name in sorted(touched))

    def _times(self) -> dict[str, tuple[int, int]]:
        """Mode and ctime, in nanoseconds, of the directory and of everything below it that can be seen."""
        seen = {}
        for folder, folders, files in os.walk(self.path):
            for path in (Path(folder), *(Path(folder, name) for name in (*folders, *files))):
                try:
                    status = path.lstat()
                except OSError:
                    continue
                seen[path.relative_to(self.path).as_posix()] = (status.st_mode, status.st_ctime_ns)
        return seen

    def _digest(self, name: str) -> str:
        try:
            return hashlib.sha256((self.path / name).read_bytes()).hexdigest()
        except OSError as error:
            return f"unreadable: {error.strerror}"
