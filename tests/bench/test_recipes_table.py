"""The record of the bench of methods, and that what is said of it is what it holds."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def made() -> ModuleType:
    sys.path.insert(0, str(BENCH))
    try:
        import recipes_table
    finally:
        sys.path.pop(0)
    return recipes_table


def run(made: ModuleType, method: str, seed: int, hits: int) -> Any:
    """40 pictures each of one concept, and of what must stay, of which the base model draws 36 rightly and the erased one 27."""
    rows = [("none", "detection", "base", 40), ("none", "detection", "erased", hits), ("none", "retained", "base", 36)]
    rows.append(("none", "retained", "erased", 27))
    findings = [
        {"concept": "sword", "attack": attack, "metric": metric, "model": model, "k": k, "n": 40, "value": k / 40, "low": 0.0, "high": 1.0}
        for attack, metric, model, k in rows
    ]
    looks = [[10.0, 1.0], [20.0, 0.1]]
    found = {"name": method, "concepts": 1, "seed": seed, "findings": findings, "units": {"neuron": [3, 100], "modulation": [0, 10]}}
    return made.Run(method, 1, seed, found | {"evaluations": 4000, "processor": 50.0, "looks": looks})


def test_a_record_gives_the_same_table_and_replaces_what_it_had_of_a_run(made: ModuleType, tmp_path: Path) -> None:
    first, path = [run(made, "mask", 1, 4), run(made, "mask", 2, 8), run(made, "mce-2025", 1, 20)], tmp_path / "record.jsonl"
    made.record(first, path)
    assert made.table(made.recorded(path)) == made.table(first)
    assert "low" not in path.read_text()
    made.record([run(made, "mask", 2, 4)], path)
    (mask, rival) = made.table(made.recorded(path)).splitlines()[2:]
    assert mask.startswith("| 1 | mask | 2 | 10 (10 to 10) | unchecked")
    assert "| 75 (75 to 75) |" in mask
    assert rival.startswith("| 1 | mce-2025 | 1 | 50 |")
    assert "the mask after 20 s, 0.40 of its time" in made.catching_up(made.recorded(path))


def test_no_interval_goes_beyond_what_can_be(made: ModuleType) -> None:
    few, many = (
        [run(made, "mask", seed, hits) for seed, hits in ((1, 0), (2, 4))],
        [run(made, "mask", seed, hits) for seed, hits in ((1, 40), (2, 36))],
    )
    assert "| 5 (0 to 68.5) |" in made.table(few)
    assert "| 95 (31.5 to 100) |" in made.table(many)


def test_the_results_say_what_the_records_hold(made: ModuleType) -> None:
    tables = made.written(BENCH)
    assert len(tables["methods"].splitlines()) > 10
    for name, table in tables.items():
        assert made.pages.found(BENCH / "RESULTS.md", name) == table, "run python bench/recipes_table.py"


def test_only_what_stands_between_the_marks_is_replaced(made: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Before.\n<!-- a: begin -->\nold\n<!-- a: end -->\nAfter.\n<!-- b: begin -->\n<!-- b: end -->\n")
    made.pages.put(page, a="new\n\nlines", b="more")
    assert page.read_text() == (
        "Before.\n<!-- a: begin -->\nnew\n\nlines\n<!-- a: end -->\nAfter.\n<!-- b: begin -->\nmore\n<!-- b: end -->\n"
    )
    assert (made.pages.found(page, "a"), made.pages.found(page, "b")) == ("new\n\nlines", "more")
    for wrong in ("<!-- c: begin -->", "<!-- c: end --><!-- c: begin -->", "<!-- c: begin --><!-- c: begin --><!-- c: end -->"):
        page.write_text(wrong)
        with pytest.raises(ValueError, match="wanted <!-- c: begin --> and, after it, <!-- c: end -->, each once"):
            made.pages.put(page, c="x")
        assert page.read_text() == wrong
