"""What is shown of a long stage, on a terminal and off it. Time is given by the test."""

from __future__ import annotations

import io

import pytest

from safeflux_cli.progress import Progress, duration


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def shown(steps: list[tuple[float, str, int, int]], *, terminal: bool) -> str:
    """What a stream holds after ``steps``: seconds to wait, what, done, total."""
    clock, stream = Clock(), io.StringIO()
    with Progress(stream, terminal=terminal, clock=clock) as progress:
        for wait, what, done, total in steps:
            clock.now += wait
            progress(what, done, total)
    return stream.getvalue()


def test_plain_lines_come_at_tenths_only() -> None:
    lines = shown([(0.01, "mask", i, 200) for i in range(201)], terminal=False).splitlines()
    assert len(lines) == 11
    assert lines[0] == "mask:   0% (0/200)"
    assert lines[5].startswith("mask:  50% (100/200)")
    assert lines[-1].startswith("mask: 100% (200/200)")
    assert "\r" not in "".join(lines)


def test_plain_line_comes_after_a_while_even_without_a_further_tenth() -> None:
    lines = shown([(0, "search", 0, 1000), (10, "search", 1, 1000), (25, "search", 2, 1000)], terminal=False).splitlines()
    assert [line.split("(")[1].split(")")[0] for line in lines] == ["0/1000", "2/1000"]


def test_time_left_comes_from_what_this_run_did() -> None:
    begun = shown([(0, "mask", 0, 100), *((2.0, "mask", i, 100) for i in range(1, 51))], terminal=False).splitlines()[-1]
    assert begun == "mask:  50% (50/100), 1:40 min left"
    resumed = shown([(0, "mask", 60, 100), *((2.0, "mask", i, 100) for i in range(61, 81))], terminal=False).splitlines()[-1]
    assert resumed.startswith("mask:  80% (80/100), ")
    assert 36 <= _seconds(resumed) <= 44  # not a quarter of the time that 80 steps would have taken


def test_terminal_draws_one_line_over_itself_and_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = shown([(0.5, "mask", i, 4) for i in range(5)] + [(0.5, "bake", 1, 2)], terminal=True)
    first, second, end = text.split("\n")
    assert first.count("\r") == 5
    assert first.split("\r")[3].startswith("mask                           [############------------]  50% 2/4")
    assert "100% 4/4, 2 s" in first
    assert second.startswith("\rbake")
    assert end == ""  # an interrupted bar is ended too
    assert max(len(line) for line in text.replace("\n", "\r").split("\r")) == 99


def test_terminal_is_not_flooded_but_the_end_is_shown() -> None:
    text = shown([(0.001, "mask", i, 500) for i in range(501)], terminal=True)
    assert text.count("\r") <= 8
    assert "500/500" in text


def test_of_two_things_at_once_each_has_its_own_pace() -> None:
    """One takes 1 s a step, the other 3; off a terminal each has its tenths, on it they take turns in one line."""
    steps = [(0.0, "fast", 0, 20), (0.0, "slow", 0, 20)]
    steps += [one for i in range(1, 21) for one in ((1.0, "fast", i, 20), *([(0.0, "slow", i // 3, 20)] if i % 3 == 0 else []))]
    lines = shown(steps, terminal=False).splitlines()
    assert sum(line.startswith("fast: ") for line in lines) == 11
    assert [line for line in lines if line.startswith("fast:  50%")] == ["fast:  50% (10/20), 10 s left"]
    assert [line for line in lines if line.startswith("slow:  20%")] == ["slow:  20% (4/20), 48 s left"]
    assert len(lines) == 11 + 4
    assert shown(steps, terminal=True).count("\n") == 2  # where the second began, and in the end


@pytest.mark.parametrize("again", [20, 5])
def test_what_begins_again_is_shown_again_and_what_ends_twice_is_not(again: int) -> None:
    lines = shown([(1.0, "draw", 10, 20), (1.0, "draw", 20, 20), (1.0, "draw", again, 20)], terminal=False).splitlines()
    assert len(lines) == (2 if again == 20 else 3)


@pytest.mark.parametrize("terminal", [True, False])
def test_heading_comes_before_its_bars_and_its_time_after_them(terminal: bool) -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(stream, terminal=terminal, clock=clock) as progress:
        progress.begin("erase")
        clock.now += 63
        progress("erase: updates", 1, 2)
        progress.end("erase")
        progress.end("bake", "kept")
    lines = stream.getvalue().split("\n")
    assert lines[0] == "erase"
    assert "updates" in lines[1]
    assert lines[2:] == ["erase: done, 1:03 min", "bake: kept", ""]


def test_nothing_to_do_is_all_done() -> None:
    assert shown([(0, "filter", 0, 0)], terminal=False) == "filter: 100% (0/0)\n"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1:00 min"), (125, "2:05 min"), (4800, "1:20 h")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def _seconds(line: str) -> int:
    return int(line.split(", ")[1].split(" s left")[0])
