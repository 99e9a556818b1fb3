"""How far a long stage has come: a bar with the time left on a terminal, plain lines with percentages elsewhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

_REDRAW = 0.1  # seconds between two drawings of a bar
_LINE = 30.0  # seconds after which a plain line is printed although no further tenth is done
_BAR = 24  # characters


@dataclass
class _Pace:
    """Of something under way: where it began, in steps and seconds, how far it has come, and what was last shown of it."""

    first: int
    started: float
    shown_at: float
    tenth: int = -1
    done: int = 0


class Progress:
    """Shows what it is called with (``safeflux.types.Progress``) on ``stream``. Use as a context, so that a bar never stays half drawn.

    The time left is reckoned from what this run has done: steps that an earlier run had done cost nothing. Several things may be under way
    at once: on a terminal they take turns in one bar.
    """

    def __init__(self, stream: TextIO, *, terminal: bool | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._terminal = stream.isatty() if terminal is None else terminal
        self._clock = clock
        self._what = ""
        self._under_way: dict[str, _Pace] = {}
        self._open = False  # a bar is on the current line
        self._headings: dict[str, float] = {}  # when each began

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_line()

    def __call__(self, what: str, done: int, total: int) -> None:
        now = self._clock()
        if what not in self._under_way or done < self._under_way[what].done:  # a new one, or again from the start
            self.end_line()
            self._under_way[what] = _Pace(max(done - 1, 0), now, now - _LINE)
        self._what, pace = what, self._under_way[what]
        pace.done = done
        if self._terminal:
            if done >= total or now - pace.shown_at >= _REDRAW:
                pace.shown_at = now
                self._draw(done, total, now)
        elif (tenth := 10 * done // max(total, 1)) > pace.tenth or now - pace.shown_at >= _LINE:
            pace.shown_at, pace.tenth = now, tenth
            self._stream.write(f"{what}: {_percent(done, total)} ({done}/{total}){self._time(done, total, now)}\n")
            self._stream.flush()

    def begin(self, what: str) -> None:
        """Something that has no steps of its own, but may hold what has, begins."""
        self._headings[what] = self._clock()
        self._say(what)

    def end(self, what: str, how: str = "done") -> None:
        """It has ended; with the time it took, if ``begin`` was called for it."""
        spent = self._clock() - self._headings.get(what, self._clock())
        self._say(f"{what}: {how}{f', {duration(spent)}' if spent >= 1 else ''}")

    def _say(self, line: str) -> None:
        self.end_line()
        self._under_way.clear()
        self._stream.write(f"{line}\n")
        self._stream.flush()

    def end_line(self) -> None:
        """Leave a drawn bar as it is and go on below it."""
        if self._open:
            self._stream.write("\n")
            self._stream.flush()
            self._open = False

    def _draw(self, done: int, total: int, now: float) -> None:
        filled = _BAR * done // max(total, 1)
        bar = "#" * filled + "-" * (_BAR - filled)
        line = f"{self._what:<30} [{bar}] {_percent(done, total)} {done}/{total}{self._time(done, total, now)}"
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r{line[:width].ljust(width)}")
        self._stream.flush()
        self._open = True

    def _time(self, done: int, total: int, now: float) -> str:
        pace = self._under_way[self._what]
        spent = now - pace.started
        if done >= total:
            return f", {duration(spent)}" if spent >= 1 else ""
        here = done - pace.first
        return f", {duration(spent / here * (total - done))} left" if here > 1 and spent >= 1 else ""


def duration(seconds: float) -> str:
    """``seconds`` as people say it: 8 s, 2:05 min, 1:20 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"


def _percent(done: int, total: int) -> str:
    return f"{100 * done // total if total else 100:3d}%"
