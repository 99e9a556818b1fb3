"""The directory of one release: ``work/`` holds what a later run continues from, ``release/`` what is published.

A stage is a function that fills an empty directory. Its key says what its result depends on; a stage whose key and whose
files are as they were is kept, any other is made again. Nothing appears under its final name before it is whole: a stage
fills ``work/<stage>.partial-<key>``, which is renamed to ``work/<stage>`` once its ``done.json`` lies in it. So a run may be
killed at any moment, and the next one goes on from the last finished stage.

What a long stage wants to keep across a kill goes into its scratch directory, which lives until the stage is done.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safeflux.errors import WorkspaceError
from safeflux.files import discard, sync_directory, tree, write_atomic

log = logging.getLogger(__name__)

Make = Callable[[Path, Path], None]  # fills the first directory; the second is its scratch

_FORMAT = 1
_MARKER = "workspace.json"
_LOCK = "lock"
_DONE = "done.json"


@dataclass(frozen=True)
class Done:
    """A finished stage: its key, the sha256 of each file it made (by relative path), and whether an earlier run had made it."""

    stage: str
    key: str
    files: Mapping[str, str]
    kept: bool

    @property
    def digest(self) -> str:
        """What the key of a later stage is made from: how this one was asked for and what came of it."""
        return key(self.stage, {"key": self.key, "files": dict(self.files)})


def key(stage: str, parts: Mapping[str, object]) -> str:
    """sha256 of all that a stage depends on; ``parts`` is plain data, and its order does not matter."""
    text = json.dumps({"format": _FORMAT, "stage": stage, "parts": parts}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def recorded(work: Path, stage: str) -> Done | None:
    """The record of a finished stage, or None where there is none that can be read. Says nothing about its files."""
    try:
        record = json.loads((work / stage / _DONE).read_text(encoding="utf-8"))
        return Done(stage, record["key"], record["files"], kept=True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def open_workspace(root: Path) -> Iterator[Workspace]:
    """Make ``root`` a workspace, or take it up again, and hold its lock. Half-made directories of a killed run are removed.

    Raises WorkspaceError when another run holds it, it cannot be written, or there is a ``work/`` that SafeFlux did not make.
    """
    work = root / "work"
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = (work / _LOCK).open("a+")
    except OSError as error:
        raise WorkspaceError(f"{root} cannot be used as the output directory: {error.strerror}; choose another with --out") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise WorkspaceError(f"another run is using {root}; wait for it to end, or choose another directory with --out") from error
        _mark(work)
        for stale in work.glob("*.partial-*"):
            discard(stale)
        yield Workspace(root, work)


@dataclass(frozen=True)
class Workspace:
    """A workspace whose lock is held: ``root`` and its ``work`` directory. Made by ``open_workspace``."""

    root: Path
    work: Path

    def stage(self, name: str, key: str, make: Make, *, lasting: str | None = None) -> Done:
        """The finished stage ``name``: an earlier run's where ``key`` and files are unchanged, else what ``make`` makes now.

        Its scratch goes when it is done, or when it is asked for with another key. With ``lasting``, a key of its own, the
        scratch stays until that key changes: for what is dear to make and depends on less than the stage does.
        """
        final = self.work / name
        done = self._kept(name, key, final)
        if done is None:
            partial, done = self._made(name, key, make, self._scratch(name, lasting or key))
            _write_record(partial, done)
            _swap(partial, final, aside=self.work / f"{name}.partial-replaced")
        if lasting is None:
            discard(self._scratch(name, key))
        return done

    def publish(self, name: str, key: str, target: str, make: Make) -> Done:
        """Like ``stage``, but what is made becomes the directory ``target`` beside ``work/``; only its record stays in ``work/``.

        The target is absent, whole as it was before, or whole as it is now, never in between; and never other than its record
        says, for the old one is put aside first, then the record replaced, then the new one put in place. It bears its final
        name while it is made, in a directory that does not.
        """
        done = self._kept(name, key, self.root / target) or self._published(name, key, target, make)
        discard(self._scratch(name, key))
        return done

    def amend(self, name: str, target: str, make: Make) -> Done:
        """Replace what ``publish`` put at ``target``, under the key it has: asked for again, it is kept as it is now."""
        old = recorded(self.work, name)
        if old is None:
            raise WorkspaceError(f"{self.root / target} was not put there by this workspace, so it cannot be replaced")
        self.refuse_foreign(name, target)
        done = self._published(name, old.key, target, make)
        discard(self._scratch(name, old.key))
        return done

    def _published(self, name: str, key: str, target: str, make: Make) -> Done:
        final, record, aside = self.root / target, self.work / f"{name}.partial-record", self.work / f"{name}.partial-withdrawn"
        partial, done = self._made(name, key, make, self._scratch(name, key), within=target)
        self.refuse_foreign(name, target)
        record.mkdir()
        _write_record(record, done)
        if final.exists():
            final.rename(aside)
        _swap(record, self.work / name, aside=self.work / f"{name}.partial-replaced")
        (partial / target).rename(final)
        sync_directory(self.root)
        discard(partial)
        discard(aside)
        return done

    def withdraw(self, name: str, target: str) -> None:
        """Take away what ``publish`` put at ``target``, if anything. Raises WorkspaceError when it holds foreign files."""
        self.refuse_foreign(name, target)
        if (self.root / target).exists():
            aside = self.work / f"{name}.partial-withdrawn"
            (self.root / target).rename(aside)
            discard(aside)

    def refuse_foreign(self, name: str, target: str) -> None:
        """Raise WorkspaceError when ``target`` holds a file that ``publish(name, ...)`` did not put there, or not like that.

        A published directory is replaced as a whole; whatever a person has added or changed would be lost with it.
        """
        done = recorded(self.work, name)
        known = done.files if done else {}
        for file, digest in _files(self.root / target).items():
            if known.get(file) != digest:
                what = "has been changed since it was published" if file in known else "was not put there by this workspace"
                raise WorkspaceError(f"{self.root / target / file} {what}; {target}/ is replaced as a whole: move the file away first")

    def _kept(self, name: str, key: str, final: Path) -> Done | None:
        done = recorded(self.work, name)
        if done is None or done.key != key:
            return None
        found = _files(final)
        if final.parent == self.work:
            found.pop(_DONE)
        if found != done.files:
            log.warning("%s: what an earlier run made has been changed or lost; it is made again", name)
            return None
        return done

    def _made(self, name: str, key: str, make: Make, scratch: Path, *, within: str = "") -> tuple[Path, Done]:
        """Have ``make`` fill a directory that does not bear its final name yet; scratch of other keys is of no more use."""
        partial = self.work / f"{name}.partial-{key[:16]}"
        for old in self.work.glob(f"{name}.scratch-*"):
            if old != scratch:
                discard(old)
        discard(partial)
        (partial / within).mkdir(parents=True)
        scratch.mkdir(exist_ok=True)
        make(partial / within, scratch)
        return partial, Done(name, key, tree(partial / within, sync=True), kept=False)

    def _scratch(self, name: str, key: str) -> Path:
        return self.work / f"{name}.scratch-{key[:16]}"


def _mark(work: Path) -> None:
    """Refuse a directory named ``work`` that is somebody else's, and leave a mark in ours."""
    marker = work / _MARKER
    if not marker.exists():
        strangers = sorted(p.name for p in work.iterdir() if p.name != _LOCK and not p.name.startswith(f"{_MARKER}.partial-"))
        if strangers:
            raise WorkspaceError(f"{work} holds {strangers[0]} and was not made by SafeFlux; choose another directory with --out")
        write_atomic(marker, json.dumps({"format": _FORMAT, "started": int(time.time())}) + "\n")
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise WorkspaceError(f"{marker} cannot be read; choose another directory with --out") from error
    if found != _FORMAT:
        raise WorkspaceError(f"{work} has format {found}, this SafeFlux writes format {_FORMAT}; choose another directory with --out")


def _files(directory: Path) -> dict[str, str]:
    return tree(directory) if directory.is_dir() else {}


def _write_record(directory: Path, done: Done) -> None:
    record = {"stage": done.stage, "key": done.key, "files": dict(done.files)}
    write_atomic(directory / _DONE, json.dumps(record, indent=1, sort_keys=True) + "\n")


def _swap(new: Path, final: Path, *, aside: Path) -> None:
    if final.exists():
        final.rename(aside)
    new.rename(final)
    sync_directory(final.parent)
    discard(aside)
