"""A training's journal as small line charts: where every line of a chart runs, for a page to draw. Plain data, no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]

WIDTH, HEIGHT = 320, 120
_CHARTS = (  # what of a journal's entry is drawn, under which title, on a logarithmic scale or not
    ("rates", "Held-out rates", False),
    ("losses", "Losses", True),
    ("weights", "Weights found for the losses", True),
)


def charts(journal: Sequence[Json]) -> list[dict[str, Any]]:
    """One chart for each of rates, losses and weights: title, lowest and highest label, and for each name the points of its line.

    ``hue`` is a name's number, the same in every chart. Fewer than two entries make no line, and so no chart.
    """
    if len(journal) < 2:
        return []
    every = sorted({name for entry in journal for key, _, _ in _CHARTS for name in entry[key]})
    return [chart for key, title, log in _CHARTS if (chart := _chart(journal, key, title, log, every))["lines"]]


def _chart(journal: Sequence[Json], key: str, title: str, log: bool, every: Sequence[str]) -> dict[str, Any]:
    scale: Callable[[float], float] = (lambda v: math.log10(max(v, 1e-6))) if log else float
    names = [name for name in every if any(name in entry[key] for entry in journal)]
    values = [scale(entry[key][name]) for entry in journal for name in entry[key]]
    low, high = (min(values), max(values)) if log and values else (0.0, 1.0)
    if high == low:
        low, high = low - 0.5, high + 0.5
    first, last = journal[0]["update"], journal[-1]["update"]

    def point(update: int, value: float) -> str:
        x = WIDTH * (update - first) / max(1, last - first)
        y = HEIGHT * (1 - (scale(value) - low) / (high - low))
        return f"{x:.1f},{min(float(HEIGHT), max(0.0, y)):.1f}"

    def line(name: str) -> dict[str, Any]:
        points = " ".join(point(e["update"], e[key][name]) for e in journal if name in e[key])
        return {"name": name, "hue": every.index(name), "points": points}

    lines = [line(name) for name in names]
    shown = (10**low, 10**high) if log else (low, high)
    return {"title": title, "lines": lines, "low": f"{shown[0]:.3g}", "high": f"{shown[1]:.3g}", "first": first, "last": last}
