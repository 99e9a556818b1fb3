"""What a user may require of a release, and that it falls short exactly when it does."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from signed_release import CLAIMS, MOMENT

from safeflux_signing import claims
from safeflux_signing.errors import InputError
from safeflux_signing.keys import PrivateKey
from safeflux_signing.requirements import CLOCKS, Lines, check, parse
from safeflux_signing.sign import sign
from safeflux_signing.verify import Verified, verify

SHORT = {"provenance": claims.PROVENANCE, "report": "https://example.org/lines/v1"}
LINES = Lines(SHORT["report"], "rows", "what", "rate", "worst", ("of", "what"), counted={"which": "new"}, void={"state": "blind"})


def row(what: str, rate: Any, worst: Any = None, **more: Any) -> dict[str, Any]:
    return {"of": "dog", "what": what, "rate": rate, "worst": worst, "which": "new", **more}


@pytest.fixture
def made(bare: Path, key: PrivateKey) -> Any:
    """A verified release whose report has the given rows."""

    def make(rows: Iterable[object] | None, *, created: datetime = MOMENT) -> Verified:
        report = [] if rows is None else [(SHORT["report"], {"rows": list(rows)})]
        sign(bare, key, release_id="demo", sequence=1, claims=[*CLAIMS, *report], created=created)
        return verify(bare, [key.public_key()])

    return make


def codes(text: str, verified: Verified, now: datetime = MOMENT) -> list[str]:
    return [finding.code for finding in check(parse(text, SHORT), verified, LINES, now)]


def test_a_claim_that_is_required_must_be_there_by_either_name(made: Any) -> None:
    verified = made(None)
    for there in ("provenance", claims.PROVENANCE, claims.TEST_RESULT, CLAIMS[2][0]):
        assert codes(there, verified) == []
    for missing in ("report", "https://example.org/report/v2"):
        assert codes(missing, verified) == ["claim-wanted"]
    assert codes("report", made([])) == []


def test_age_is_counted_from_the_signed_time_to_the_second(made: Any) -> None:
    verified = made(None)
    for text, age in (("max-age=90d", timedelta(days=90)), ("max-age=5h", timedelta(hours=5)), ("max-age=0d", timedelta(0))):
        assert codes(text, verified, MOMENT + age) == []
        assert codes(text, verified, MOMENT + age + timedelta(seconds=1)) == ["release-old"]
    assert codes("max-age=90d", verified, MOMENT - CLOCKS) == []
    assert codes("max-age=90d", verified, MOMENT - CLOCKS - timedelta(seconds=1)) == ["release-undated"], "signed in the future"
    undated = Verified(verified.key_id, verified.entries, None, ())
    assert codes("max-age=90d", undated) == ["release-undated"]
    assert codes("max-age=99999d", verified, datetime.now(UTC)) == []


@pytest.mark.parametrize(
    ("rows", "text", "expected"),
    [
        ([row("hits", 0.01, 0.04)], "hits<=0.05", []),
        ([row("hits", 0.01, 0.05)], "hits<=0.05", []),
        ([row("hits", 0.01, 0.06)], "hits<=0.05", ["limit-missed"]),  # by its bound, not by its rate
        ([row("hits", 0.05)], "hits<=0.05", []),
        ([row("hits", 0.051)], "hits<=0.05", ["limit-missed"]),
        ([row("kept", 0.97, 0.91)], "kept>=0.9", []),
        ([row("kept", 0.97, 0.89)], "kept>=0.9", ["limit-missed"]),
        ([row("kept", 0.97, 0.89)], "kept<=0.9", ["limit-missed"]),  # a bound meant for the other side helps nobody
        ([row("hits", 0.01, 0.99)], "hits>=0.5", ["limit-missed"]),
        ([row("hits", 0, 0), row("hits", 1, 1)], "hits<=0.05", ["limit-missed"]),  # every line
        ([row("hits", 0, 0, state="blind")], "hits<=0.05", ["limit-unmeasured"]),
        ([row("hits", None)], "hits<=0.05", ["limit-unmeasured"]),
        ([row("hits", None, 0.01)], "hits<=0.05", ["limit-unmeasured"]),
        ([row("hits", True)], "hits<=1", ["limit-unmeasured"]),
        ([row("hits", "0")], "hits<=1", ["limit-unmeasured"]),
        ([row("hits", 0, "0")], "hits<=1", ["limit-unmeasured"]),
        ([row("hits", 10**400)], "hits<=1", ["limit-missed"]),
        ([row("hits", 1, which="old"), row("hits", 0)], "hits<=0.05", []),
        ([row("hits", 0, which="old")], "hits<=0.05", ["limit-unmeasured"]),
        ([row("other", 0), 7, None, {}], "hits<=0.05", ["limit-unmeasured"]),
        ([], "hits<=0.05", ["limit-unmeasured"]),
        (None, "hits<=0.05", ["claim-wanted"]),
    ],
)
def test_every_counted_line_keeps_the_limit_by_its_worse_number(made: Any, rows: Any, text: str, expected: list[str]) -> None:
    assert codes(text, made(rows)) == expected


def test_a_report_of_another_shape_keeps_no_limit(bare: Path, key: PrivateKey) -> None:
    for report in ([], {"rows": {}}, {}, None, "rows"):
        sign(bare, key, release_id="demo", sequence=1, claims=[(SHORT["report"], report)], created=MOMENT)
        assert codes("hits<=1", verify(bare, [key.public_key()])) == ["limit-unmeasured"]


def test_a_second_report_excuses_nothing(bare: Path, key: PrivateKey) -> None:
    reports = [(SHORT["report"], {"rows": [row("hits", rate)]}) for rate in (0, 1)]
    sign(bare, key, release_id="demo", sequence=1, claims=reports, created=MOMENT)
    assert codes("hits<=0.5", verify(bare, [key.public_key()])) == ["limit-missed"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "Provenance", "reports", "max-age=90", "max-age=90m", "max-age=-1d", "max-age=1.5d", "max-age=100000d", "max-age=90d "),
        *("hits<0.05", "hits=0.05", "hits==0.05", "hits<=", "hits<=5%", "hits<=.5", "hits<=1e-2", "hits<=-1", "hits<=nan", "hits<=inf"),
        *("hits <= 0.05", "hits<=0.05,kept>=0.9", "<=0.05", "Hits<=0.05", "hits<=٣", "https://example.org/a b", "urn:", "hits>=0.9\n"),
    ],
)
def test_anything_else_is_no_requirement(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text, SHORT)
    assert caught.value.findings[0].code == "requirement"
