"""How far a long stage has come: a bar with the time left on a terminal, plain lines with percentages elsewhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TextIO

_REDRAW = 0.1  # seconds between two drawings of a bar
_LINE = 30.0  # seconds after which a plain line is printed although no further tenth is done
_BAR = 24  # characters


class Progress:
    """Shows what it is called with (``safeflux.types.Progress``) on ``stream``. Use as a context, so that a bar never stays half drawn.

    The time left is reckoned from what this run has done: steps that an earlier run had done cost nothing.
    """

    def __init__(self, stream: TextIO, *, terminal: bool | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._terminal = stream.isatty() if terminal is None else terminal
        self._clock = clock
        self._what = ""
        self._first = 0
        self._started = self._shown_at = 0.0
        self._shown_tenth = -1
        self._open = False  # a bar is on the current line
        self._headings: dict[str, float] = {}  # when each began

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_line()

    def __call__(self, what: str, done: int, total: int) -> None:
        now = self._clock()
        if what != self._what:
            self.end_line()
            self._what, self._first, self._started, self._shown_at, self._shown_tenth = what, max(done - 1, 0), now, -_LINE, -1
        if self._terminal:
            if done >= total or now - self._shown_at >= _REDRAW:
                self._shown_at = now
                self._draw(done, total, now)
        elif (tenth := 10 * done // max(total, 1)) > self._shown_tenth or now - self._shown_at >= _LINE:
            self._shown_at, self._shown_tenth = now, tenth
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
        self._what = ""
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
        spent = now - self._started
        if done >= total:
            return f", {duration(spent)}" if spent >= 1 else ""
        here = done - self._first
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
