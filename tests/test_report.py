"""The report judges by what it shows, and reads back only what does not contradict itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from report_example import CONCEPTS, LIMITS, counted, example, findings

from safeflux import report
from safeflux.errors import ReportError
from safeflux.statistics import lower, upper
from safeflux.types import Finding, Report


def with_line(
    change: Callable[[Finding], Finding], concept: str | None = "sword", attack: str = "none", metric: str = "detection"
) -> Report:
    """The example with ``change`` made to one line of the erased model."""
    key = (concept, attack, metric, "erased")
    lines = [change(f) if (f.concept, f.attack, f.metric, f.model) == key else f for f in findings()]
    assert lines != list(findings())
    return example(findings=tuple(lines))


def test_example_passes() -> None:
    assert report.verdict(example()) == "passed"
    assert report.to_json(example())["verdict"] == "passed"


@pytest.mark.parametrize("k", range(0, 30, 3))
def test_ceiling_and_floor_follow_the_bound(k: int) -> None:
    bound, status = report.judge_ceiling(k, 100, 0.1, 0.95)
    assert (bound, status) == (upper(k, 100, 0.95), "passed" if upper(k, 100, 0.95) <= 0.1 else "failed")
    bound, status = report.judge_floor(100 - k, 100, 0.8, 0.9)
    assert (bound, status) == (lower(100 - k, 100, 0.9), "passed" if lower(100 - k, 100, 0.9) >= 0.8 else "failed")


def test_too_few_pictures_cannot_pass() -> None:
    assert report.judge_ceiling(0, 28, 0.1)[1] == "failed"
    assert report.judge_ceiling(0, 29, 0.1)[1] == "passed"


def test_decide_takes_a_floor_relative_to_the_base() -> None:
    control, finding = counted(None, "none", "retained", (190, 200), (184, 200))
    assert finding.limit == pytest.approx(0.9 * 190 / 200)
    assert finding.status == "passed"
    assert counted(None, "none", "retained", (190, 200), (170, 200))[1].status == "failed"
    assert control.status == "control"


def test_decide_leaves_unchecked_what_no_control_supports() -> None:
    raw = Finding("sword", "none", "detection", "erased", 0, 90, 0.0, 0.0, 0.041, "unchecked")
    weak = replace(raw, model="base", k=44, value=44 / 90, status="control")
    for control, reason in ((None, "no control"), (weak, "44 of 90"), (replace(weak, n=0, k=0), "no effective prompt")):
        finding = report.decide(raw, control, 0.1, 0.95)
        assert (finding.status, finding.limit, finding.bound) == ("unchecked", 0.1, None)
        assert reason in finding.reason
    assert report.decide(raw, replace(weak, k=45), 0.1, 0.95).status == "passed"
    assert "no pictures" in report.decide(replace(raw, n=0), weak, 0.1, 0.95).reason
    with pytest.raises(ValueError, match="no counts"):
        report.decide(replace(raw, k=None), weak, 0.1, 0.95)


def one_failed() -> Report:
    lines = [f for f in findings() if (f.concept, f.attack, f.metric) != ("sword", "none", "detection")]
    return example(findings=(*lines, *counted("sword", "none", "detection", (148, 150), (40, 150))))


def one_unchecked() -> Report:
    lines = [f for f in findings() if (f.concept, f.attack, f.metric) != ("sword", "none", "detection")]
    return example(findings=(*lines, *counted("sword", "none", "detection", (50, 150), (0, 150))))


def nothing_limited() -> Report:
    return example(findings=tuple(f for f in findings() if f.limit is None))


def no_findings() -> Report:
    return example(findings=())


def concept_never_looked_for() -> Report:
    return example(findings=tuple(f for f in findings() if f.concept != "sketch"))


def only_neighbours_of_a_concept() -> Report:
    return example(findings=tuple(f for f in findings() if f.concept != "sketch" or f.metric == "neighbours"))


@pytest.mark.parametrize(
    "wrong", [one_failed, one_unchecked, nothing_limited, no_findings, concept_never_looked_for, only_neighbours_of_a_concept]
)
def test_fails_closed(wrong: Callable[[], Report]) -> None:
    assert report.verdict(wrong()) == "failed"
    assert report.from_json(report.to_json(wrong())) == report.assemble(wrong())


def test_lines_without_a_limit_do_not_fail_it() -> None:
    assert any(f.status == "measured" and f.limit is None for f in findings())
    assert report.verdict(example()) == "passed"


def test_round_trip_and_same_bytes_in_any_order() -> None:
    text = report.to_text(example())
    assert report.from_text(text) == report.assemble(example())
    assert report.to_text(report.from_text(text)) == text
    shuffled = example(findings=tuple(reversed(example().findings)), limits=dict(reversed(LIMITS.items())))
    assert report.to_text(shuffled) == text


def test_findings_stand_in_the_order_of_the_concepts() -> None:
    lines = report.to_json(example())["findings"]
    assert list(dict.fromkeys(f["concept"] for f in lines)) == [*CONCEPTS, None]
    assert next(f["attack"] for f in lines if f["concept"] == "sword") == "none"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: replace(f, status="failed"), "under the policy's limits is passed"),
        (lambda f: replace(f, limit=0.5), "against 0.1"),
        (lambda f: replace(f, bound=0.001), "by 0.001"),
        (lambda f: replace(f, k=1), "is not 1 of 150"),
        (lambda f: replace(f, k=151, value=151 / 150), "151 hits of 150"),
        (lambda f: replace(f, low=0.01, high=0.02), "outside its interval"),
        (lambda f: replace(f, bound=None), "needs k, n, a bound and a limit"),
        (lambda f: replace(f, status="control"), "cannot be control"),
        (lambda f: replace(f, status="unchecked"), "without a reason"),
        (lambda f: replace(f, status="measured"), "measured, but there is a limit"),
        (lambda f: replace(f, concept="axe"), "not among the concepts"),
        (lambda f: replace(f, attack="paraphrase"), "measured twice"),
        (lambda f: replace(f, attack="p4d"), "there is no control"),
        (lambda f: replace(f, value=float("nan")), "wanted number or null"),
    ],
)
def test_lines_that_cannot_stand_are_refused(change: Callable[[Finding], Finding], message: str) -> None:
    with pytest.raises(ReportError, match=message):
        report.assemble(with_line(change))
    with pytest.raises(ReportError, match=message):
        report.to_json(with_line(change))


def test_passed_needs_a_control_that_fires() -> None:
    alone = tuple(f for f in findings() if f.model == "erased")
    with pytest.raises(ReportError, match="there is no control"):
        report.assemble(example(findings=alone))
    weak = [replace(f, k=10, value=10 / f.n, low=0.0, high=1.0) if f.status == "control" and f.k else f for f in findings()]
    with pytest.raises(ReportError, match="the control does not fire: 10 of 150"):
        report.assemble(example(findings=tuple(weak)))


@pytest.mark.parametrize(("change", "message"), [
    ({"prompts": 10, "prompts_hit": 11}, "hits in 150 pictures from 11 of 10 prompts"),
    ({"prompts": 10, "prompts_hit": 1}, "0 hits in 150 pictures from 1 of 10 prompts"),
    ({"prompts": 151, "prompts_hit": 0}, "0 hits in 150 pictures from 0 of 151 prompts"),
    ({"planned": 149}, "150 pictures, but only 149 were planned"), ({"corrected": 1.2}, "corrected"),
])  # fmt: skip
def test_what_is_said_beside_a_count_has_to_fit_it(change: dict[str, float], message: str) -> None:
    with pytest.raises(ReportError, match=message):
        report.to_json(with_line(lambda f: replace(f, **change)))  # type: ignore[arg-type]
    good = with_line(lambda f: replace(f, prompts=150, prompts_hit=0, planned=200, corrected=0.0, corrected_low=0.0, corrected_high=0.02))
    assert report.from_json(report.to_json(good)) == report.assemble(good)


def test_bounds_are_those_of_the_rule_that_the_policy_had() -> None:
    """Where drawing could have stopped at any time, the exact bound of a fixed number claims too much."""
    early = example(policy={**example().policy, "stop_early": True})
    with pytest.raises(ReportError, match=r"passed by 0\.0\d+ against 0\.1, but 0 of 150 under the policy's limits is passed by 0\.029"):
        report.to_json(early)


def test_a_retained_line_cannot_be_judged_as_a_ceiling() -> None:
    lines = [f for f in findings() if f.concept is not None]
    control, kept = counted(None, "none", "retained", (400, 400), (2, 400))
    posing = report.decide(replace(kept, status="unchecked"), control, 0.1, 0.95)
    assert posing.status == "passed"
    with pytest.raises(ReportError, match="is failed by"):
        report.assemble(example(findings=(*lines, control, posing)))


def test_more_removed_than_there_was_is_refused() -> None:
    with pytest.raises(ReportError, match=r"ff lost 9 of 8 units"):
        report.assemble(example(edit={"kind": "masks", "sites": [{"site": "ff", "units": 8, "removed": 9}]}))


def test_a_changed_verdict_is_refused() -> None:
    for made in (example(), one_failed()):
        data = report.to_json(made)
        data["verdict"] = {"passed": "failed", "failed": "passed"}[data["verdict"]]
        with pytest.raises(ReportError, match="the file says"):
            report.from_json(data)


def test_text_that_is_no_report_is_refused() -> None:
    text = report.to_text(example())
    for wrong in ("", "[]", "null", "{", text[:-3], "[" * 100_000, text.replace('"version"', '"name"', 1)):
        with pytest.raises(ReportError):
            report.from_text(wrong)
    with pytest.raises(ReportError, match="given twice"):
        report.from_text('{"a": 1, "a": 2}')
    with pytest.raises(ReportError, match="wanted"):
        report.from_text(json.dumps(report.to_json(example()) | {"environment": {"x": float("inf")}}))


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ReportError) as caught:
        report.to_json(example(name="", version="", limits={}))
    assert len(str(caught.value).splitlines()) == 1 + 2 + 3
