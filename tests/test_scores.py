"""What follows from the lines of a report together: against the statistics it names, and against the verdicts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from report_example import LIMITS, counted, example, findings

from safeflux import report, scores, wording_weights
from safeflux.report import decide
from safeflux.statistics import wilson
from safeflux.statistics.joint import harmonic_mean
from safeflux.types import Finding, Report


def data(made: Report) -> dict[str, Any]:
    return report.to_json(made)


def test_a_line_passes_exactly_where_its_p_value_is_small() -> None:
    for early in (False, True):
        for k in range(13):
            for keep, hits in ((False, k), (True, 150 - k)):
                metric, limit = ("retained", LIMITS["retained"]) if keep else ("detection", LIMITS["detection"])
                line = Finding(None, "none", metric, "erased", hits, 150, hits / 150, *wilson(hits, 150), "measured")
                control = replace(line, model="base", k=150, value=1.0)
                made = decide(line, control, limit["value"], 0.95, keep=keep, early=early)
                p = scores.p_value(vars(made), early=early)
                assert (p <= 0.05) == (made.status == "passed"), (k, keep, early)


def test_lines_hold_singly_and_together() -> None:
    """Two lines that pass with p = 3% each: together that is 6%, and too much."""
    near = [line for concept in ("sword", "sketch") for line in counted(concept, "none", "detection", (150, 150), (8, 150))]
    sure = counted("sword", "paraphrase", "detection", (400, 400), (0, 400))
    said = scores.together(data(example(concepts=("sword", "sketch"), findings=(*near, *sure))))
    assert said == (
        "Each line holds with 0.95 confidence on its own. All together, 1 of the 3 that passed hold with 0.95 confidence (Holm's "
        "correction over 3 tests); whoever quotes one of these singly says too much: sword, direct prompts; sketch, direct prompts."
    )
    sure = [line for concept in ("sword", "sketch") for line in counted(concept, "none", "detection", (400, 400), (0, 400))]
    said = scores.together(data(example(concepts=("sword", "sketch"), findings=tuple(sure))))
    assert said.endswith("The 2 that passed hold all together with 0.95 confidence, too (Holm's correction over 2 tests).")


def test_nothing_is_said_of_single_lines_or_none() -> None:
    assert scores.together(data(example(concepts=("sword",), findings=counted("sword", "none", "detection", (150, 150), (0, 150))))) == ""
    assert scores.together(data(example(findings=()))) == ""


def test_scores_of_other_works() -> None:
    rows = {row["concept"]: row for row in scores.by_concept(data(example()))}
    assert list(rows) == ["sword", "sketch", "captain comet"]
    sword = rows["sword"]
    assert (sword["ua"], sword["ira"], sword["cra"]) == pytest.approx((1.0, 142 / 150, 381 / 400))
    assert sword["h"] == pytest.approx(harmonic_mean([1.0, 142 / 150, 381 / 400]))
    bare = [f for f in findings() if f.metric != "neighbours" and f.concept != "sketch"]
    rows = {row["concept"]: row for row in scores.by_concept(data(example(findings=tuple(bare))))}
    assert rows["captain comet"]["ira"] is None
    assert "sketch" not in rows


def test_remarks_beside_a_count() -> None:
    line = vars(counted("sword", "ring-a-bell", "detection", (60, 60), (3, 60))[1])
    assert scores.remarks(line) == []
    known = line | {"corrected": 0.031, "corrected_low": 0.0, "corrected_high": 0.12, "prompts": 8, "prompts_hit": 2, "planned": 120}
    assert scores.remarks(known) == [
        "without the detector's mistakes 3.1%, 0.0 to 12.0%", "from 8 prompts, 2 of which drew it at least once",
        "decided after 60 of 120 pictures",
    ]  # fmt: skip
    kept = vars(counted(None, "none", "retained", (150, 150), (141, 150))[1]) | {"lost": 9, "gained": 0}
    assert scores.remarks(kept) == ["lost in 9 pairs, gained in 0: by chance in 0.4% (McNemar)"]
    assert scores.remarks(None) == scores.remarks(line | {"k": None}) == []


def test_how_far_weights_moved_is_said_where_it_is_known() -> None:
    edit = {"kind": "unknown", "sites": [], "parameters": 1000, "changed": 200, "zeroed": 100, "relative_change": 0.125}
    assert wording_weights.edit_in_words(edit) == (
        "How the model was made is not known. 200 of 1,000 parameters differ from the base's, by 12.5% of the weights' norm."
    )
    assert wording_weights.edit_in_words({"kind": "weights", "sites": []}) == "An edit of kind weights; it removes no units."
