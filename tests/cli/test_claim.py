"""An auditor's claim: added from the command line, shown with who made it, and missed where it was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from report_example import example

from safeflux.report import to_json
from safeflux.verify import ERASURE_REPORT
from safeflux_cli.claim import claim
from safeflux_cli.keys import keys as keys_command
from safeflux_cli.verify import verify
from safeflux_signing import keys
from safeflux_signing.claims import TEST_RESULT
from safeflux_signing.sign import sign

RESULT = {"result": "PASSED", "configuration": [], "passedTests": ["sword"], "warnedTests": [], "failedTests": []}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A signed release with a report, the keys of its publisher and of an auditor, and a trust file that knows both."""
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "model_index.json").write_text("{}")
    for name in ("acme", "auditor", "stranger"):
        keys.new(tmp_path / f"{name}.key", None)
    claims = [(ERASURE_REPORT, to_json(example()))]
    sign(tmp_path / "release", keys.load_private(tmp_path / "acme.key"), release_id="demo-1", sequence=1, claims=claims)
    for name, role in (("acme", "publisher"), ("auditor", "auditor")):
        assert call(keys_command, "trust", tmp_path / f"{name}.pub", "--role", role, "--trust", tmp_path / "trust.toml").exit_code == 0
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    return tmp_path


def call(command: Any, *arguments: str | Path) -> Result:
    return CliRunner().invoke(command, list(map(str, arguments)))


def claimed(home: Path, *options: str | Path, file: str = "result.json", kind: str = "test-result", key: str = "auditor") -> Result:
    place = (home / "release", home / file)
    return call(claim, *place, "--type", kind, "--key", home / f"{key}.key", "--signed-by", home / "acme.pub", *options)


def verified(home: Path, *options: str) -> Result:
    return call(verify, home / "release", "--trust", home / "trust.toml", *options)


def test_it_is_shown_with_its_signer_and_missed_once_it_is_taken_away(home: Path) -> None:
    before = (home / "release" / "claims.jsonl").read_bytes()
    wanted = verified(home, "--require", "test-result@auditor")
    assert wanted.exit_code == 14
    assert f"{TEST_RESULT} by auditor" in wanted.stderr
    done = claimed(home)
    assert done.exit_code == 0, done.output
    assert keys.key_id(keys.load_public(home / "auditor.pub")) in done.stdout
    shown = verified(home, "--require", "test-result@auditor", "--require", "erasure-report@publisher")
    assert shown.exit_code == 0, shown.output
    assert f"claim     {TEST_RESULT} (added later by auditor, auditor)\n" in shown.stdout
    [_, told] = json.loads(verified(home, "--json").stdout)["claims"]
    assert (told["predicate_type"], told["publisher"], told["role"], told["required"]) == (TEST_RESULT, "auditor", "auditor", False)
    (home / "release" / "claims.jsonl").write_bytes(before)
    assert verified(home).exit_code == 0
    assert verified(home, "--require", "test-result@auditor").exit_code == 14


@pytest.mark.parametrize("what", ["a claim", "the manifest"])
def test_nobody_signs_by_a_publishers_key_that_the_release_brings_along(home: Path, what: str) -> None:
    release, public = home / "release", home / "acme.pub"
    (release / "acme.pub").write_bytes(public.read_bytes())
    sign(release, keys.load_private(home / "acme.key"), release_id="demo-2", sequence=2)
    command: tuple[Any, ...] = (keys_command, "cosign", release)
    if what == "a claim":
        command = (claim, release, home / "result.json", "--type", "test-result")
    refused = call(*command, "--key", home / "auditor.key", "--signed-by", release / "acme.pub")
    assert refused.exit_code == 2
    assert "lies in the release that it is to vouch for" in refused.stderr
    assert call(*command, "--key", home / "auditor.key", "--signed-by", public).exit_code == 0


def test_the_publishers_own_claim_is_not_the_auditors(home: Path) -> None:
    assert verified(home, "--require", "erasure-report").exit_code == 0
    done = verified(home, "--require", "erasure-report@auditor")
    assert done.exit_code == 14
    assert f"actual    {ERASURE_REPORT} by publisher" in done.stderr


def test_a_claim_by_a_key_that_is_not_trusted_is_refused_and_can_be_removed(home: Path) -> None:
    file = home / "release" / "claims.jsonl"
    assert claimed(home, key="stranger").exit_code == 0
    refused = verified(home)
    assert refused.exit_code == 12
    assert "claims.jsonl: line 2: " in refused.stderr
    file.write_bytes(file.read_bytes().splitlines(keepends=True)[0])
    assert verified(home, "--require", "erasure-report").exit_code == 0


def test_an_auditors_report_is_held_against_the_limits_too(home: Path) -> None:
    """With lines of its own: that it does not have all of the publisher's is no fault, that it is worse is one."""
    line = {
        "concept": "sword",
        "attack": "theirs",
        "metric": "detection",
        "model": "erased",
        "value": 0.5,
        "bound": 0.6,
        "status": "measured",
    }
    (home / "report.json").write_text(json.dumps({"findings": [line]}))
    assert verified(home, "--require", "detection<=0.5", "--require", "retained>=0.5").exit_code == 0
    assert claimed(home, file="report.json", kind="erasure-report").exit_code == 0
    assert verified(home, "--require", "retained>=0.5").exit_code == 0
    worse = verified(home, "--require", "detection<=0.5")
    assert worse.exit_code == 15
    assert "sword/theirs/detection" in worse.stderr


@pytest.mark.parametrize(
    ("text", "kind", "code"),
    [
        ("{", "test-result", 16),
        ('{"a": 1, "a": 2}', "test-result", 16),
        ("{}", "tests", 2),
        ("{}", "https://model_signing/signature/v1.0", 2),
        ("{}", "urn:safeflux:commitment:v1", 2),
        (None, "test-result", 2),
    ],
)
def test_what_is_no_claim_is_not_added(home: Path, text: str | None, kind: str, code: int) -> None:
    before = (home / "release" / "claims.jsonl").read_bytes()
    if text is not None:
        (home / "other.json").write_text(text)
    done = claimed(home, file="other.json", kind=kind)
    assert done.exit_code == code, done.output
    assert (home / "release" / "claims.jsonl").read_bytes() == before


def test_a_bare_key_has_no_role_to_ask_for(home: Path) -> None:
    done = call(verify, home / "release", "--key", home / "acme.pub", "--require", "test-result@auditor")
    assert done.exit_code == 2
    assert "trust file" in done.stderr
