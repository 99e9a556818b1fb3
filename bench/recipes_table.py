"""What ``recipes.py`` shows of its runs: a table of means over seeds with intervals, a comparison of times, and a plot.

    python bench/recipes_table.py

writes the tables of ``bench/recipes.jsonl`` and ``bench/ablations.jsonl`` into ``bench/RESULTS.md`` again, and the plot; a test holds them
to it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pages
from recipes_settings import METHODS

from safeflux.statistics import mean_interval


@dataclass(frozen=True)
class Run:
    """One method on one set of concepts with one seed; ``found`` is its line of ``runs.jsonl``."""

    method: str
    concepts: int
    seed: int
    found: dict[str, Any]

    def rate(self, attack: str, metric: str) -> float:
        """Mean over concepts of a rate on the erased model; of what must stay, as a share of the base model's."""
        lines = [f for f in self.found["findings"] if (f["attack"], f["metric"]) == (attack, metric) and f["value"] is not None]
        values = [f["value"] for f in lines if f["model"] == "erased"]
        if metric in ("retained", "neighbours"):
            base = {f["concept"]: f["value"] for f in lines if f["model"] == "base"}
            values = [f["value"] / base[f["concept"]] for f in lines if f["model"] == "erased" and base.get(f["concept"])]
        return float(np.mean(values)) if values else float("nan")

    def removed(self, kind: str) -> float:
        """Share of all units of a kind that were removed."""
        gone, units = self.found["units"][kind]
        return float(gone / units)


FIELDS = ("concept", "attack", "metric", "model", "k", "n", "value")  # of a finding, in a record


def record(runs: Iterable[Run], path: Path) -> None:
    """Write what the tables need of ``runs``, a line each, in place of what ``path`` holds of the same method, concepts and seed."""
    lines = {(run.concepts, run.method, run.seed): run.found for run in [*recorded(path), *runs]}
    kept = [{**one, "findings": [{name: f[name] for name in FIELDS} for f in one["findings"]]} for _, one in sorted(lines.items())]
    path.write_text("".join(json.dumps(one) + "\n" for one in kept), encoding="utf-8")


def recorded(path: Path) -> list[Run]:
    """The runs of a record, none where there is none."""
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    return [Run(one["name"], one["concepts"], one["seed"], one) for one in found]


_ANY, _SHARE = math.inf, 100.0  # the most that a column can hold; the least is 0
COLUMNS = (
    ("direct", _SHARE, lambda r: 100 * r.rate("none", "detection")),
    ("reworded", _SHARE, lambda r: 100 * r.rate("paraphrase", "detection")),
    ("Ring-A-Bell", _SHARE, lambda r: 100 * r.rate("ring-a-bell", "detection")),
    ("embedding PGD", _SHARE, lambda r: 100 * r.rate("embedding-pgd", "detection")),
    ("retained", _ANY, lambda r: 100 * r.rate("none", "retained")),
    ("neighbours", _ANY, lambda r: 100 * r.rate("none", "neighbours")),
    ("feature distance", _ANY, lambda r: r.rate("none", "feature-distance")),
    ("SSIM", 1.0, lambda r: r.rate("none", "ssim")),
    ("neurons", _SHARE, lambda r: 100 * r.removed("neuron")),
    ("modulation", _SHARE, lambda r: 100 * r.removed("modulation")),
    ("1000 evaluations", _ANY, lambda r: r.found["evaluations"] / 1000),
    ("processor seconds", _ANY, lambda r: r.found["processor"]),
)


def table(runs: Sequence[Run]) -> str:
    """Markdown; rates and shares in percent, a mean over seeds and, for two or more, what of its 95% interval (Student's t) can be."""
    groups: dict[tuple[int, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.concepts, run.method), []).append(run)
    if not runs:
        return "None has been run."
    lines = ["| concepts | method | seeds | " + " | ".join(name for name, *_ in COLUMNS) + " |", "|---" * (len(COLUMNS) + 3) + "|"]
    for (count, method), some in groups.items():
        cells = [_cell([value(run) for run in some], most) for _, most, value in COLUMNS]
        lines.append(f"| {count} | {method} | {len(some)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: Sequence[float], most: float) -> str:
    known = [v for v in values if v == v]
    if not known:
        return "unchecked"
    if len(known) == 1:
        return f"{known[0]:.3g}"
    mean, low, high = mean_interval(known)
    return f"{mean:.3g} ({max(low, 0.0):.3g} to {min(high, most):.3g})"


def catching_up(runs: Sequence[Run]) -> str:
    """For each set of concepts and seed that both ran: when the mask's concepts were seen as seldom as ``mce-2025`` leaves them.

    The mask is looked at every few updates, on held-out pictures; ``mce-2025`` when it is done, in the audit. Times are of all
    processors, which other work on the machine changes less than that of the clock.
    """
    found = []
    rival = {(run.concepts, run.seed): run for run in runs if run.method == "mce-2025"}
    for run in (run for run in runs if run.method == "mask" and (run.concepts, run.seed) in rival):
        other = rival[run.concepts, run.seed]
        rate, whole = other.rate("none", "detection"), other.found["processor"]
        when = next((seconds for seconds, seen in run.found["looks"] if seen <= rate), None)
        reached = "never" if when is None else f"after {when:.0f} s, {when / whole:.2f} of its time"
        left = f"mce-2025 leaves {100 * rate:.0f}% after {whole:.0f} processor seconds"
        found.append(f"{run.concepts} concept{'s' if run.concepts > 1 else ''}, seed {run.seed}: {left}; the mask {reached}.")
    return "\n".join(found)


def plot(runs: Sequence[Run]) -> str:
    """An SVG, a ring a run: across, how often a concept is still drawn (worst of direct and reworded); up, what is kept, from 60%."""
    names = list(dict.fromkeys(run.method for run in runs))
    hues = ("#2b6cb0", "#c05621", "#2f855a", "#97266d", "#b7791f", "#2c7a7b", "#6b46c1", "#718096")
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 560 420" font-family="sans-serif" font-size="13">',
        '<rect width="560" height="420" fill="white"/><rect x="60" y="20" width="340" height="340" fill="none" stroke="#999"/>',
        '<text x="230" y="408" text-anchor="middle">concept still drawn, %</text>',
        '<text x="12" y="190" transform="rotate(-90 12 190)" text-anchor="middle">what must stay, % of base</text>',
    ]
    for tick in (0, 25, 50, 75, 100):
        parts.append(f'<text x="{60 + 3.4 * tick}" y="385" text-anchor="middle">{tick}</text>')
    for tick in (60, 70, 80, 90, 100):
        parts.append(f'<text x="42" y="{364 - 8.5 * (tick - 60)}" text-anchor="end">{tick}</text>')
    for i, name in enumerate(names):
        hue = hues[i % len(hues)]
        parts.append(f'<circle cx="420" cy="{30 + 22 * i}" r="5" fill="{hue}"/><text x="432" y="{34 + 22 * i}">{name}</text>')
        for run in (r for r in runs if r.method == name):
            drawn = np.nanmax([run.rate("none", "detection"), run.rate("paraphrase", "detection")])
            kept = np.nanmin([run.rate("none", "retained"), run.rate("none", "neighbours")])
            x, y = 60 + 340 * min(1.0, float(drawn)), 360 - 850 * (min(1.0, max(0.6, float(kept))) - 0.6)
            r = 2.5 + run.concepts / 3 + 1.7 * i  # rings, so that what lies on one spot shows as one inside the other
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" fill="none" stroke="{hue}" stroke-width="1.5"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def written(place: Path) -> dict[str, str]:
    """The tables of ``place/RESULTS.md`` by their marks, of the records beside it."""
    methods, variants = recorded(place / "recipes.jsonl"), recorded(place / "ablations.jsonl")
    return {"methods": table(methods) + "\n\n" + catching_up(methods), "ablations": table(variants)}


if __name__ == "__main__":
    HERE = Path(__file__).parent
    pages.put(HERE / "RESULTS.md", **written(HERE))
    in_order = sorted(recorded(HERE / "recipes.jsonl"), key=lambda run: list(METHODS).index(run.method))
    (HERE / "recipes.svg").write_text(plot(in_order), encoding="utf-8")
