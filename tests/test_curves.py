from __future__ import annotations

from itertools import pairwise

from report_example import training

from safeflux import curves


def points(chart: dict[str, object], name: str) -> list[tuple[float, float]]:
    lines = chart["lines"]
    assert isinstance(lines, list)
    text = next(line["points"] for line in lines if line["name"] == name)
    return [(float(x), float(y)) for x, y in (point.split(",") for point in text.split())]


def test_a_rate_falls_from_its_height_to_the_bottom() -> None:
    chart = curves.charts(training()["journal"])[0]
    assert (chart["title"], chart["low"], chart["high"]) == ("Held-out rates", "0", "1")
    line = points(chart, "sword")
    assert [x for x, _ in line] == [0.0, 106.7, 213.3, 320.0]
    assert [y for _, y in line] == [30.0, 60.0, 90.0, 120.0]
    assert [y for _, y in points(chart, "what must stay")] == [0.0] * 4


def test_weights_are_drawn_on_a_logarithmic_scale() -> None:
    """Doubling every time is a straight line."""
    chart = next(c for c in curves.charts(training()["journal"]) if c["title"].startswith("Weights"))
    heights = [y for _, y in points(chart, "sword")]
    steps = [b - a for a, b in pairwise(heights)]
    assert max(steps) - min(steps) < 0.2
    assert (chart["low"], chart["high"]) == ("0.5", "16")


def test_what_makes_no_line_makes_no_chart() -> None:
    assert curves.charts([]) == []
    assert curves.charts(training()["journal"][:1]) == []
    flat = [{"update": i, "losses": {"a": 0.0}, "weights": {"a": 1.0}, "rates": {"a": 0.5}} for i in (1, 2)]
    assert [len(chart["lines"]) for chart in curves.charts(flat)] == [1, 1, 1]
