"""What a user may require beyond a good signature, the summary handed on, and the shape of what machines read."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result
from report_example import example

import safeflux_cli.verify as module
from safeflux.report import to_json
from safeflux.verify import AUDIT_STARTED, ERASURE_REPORT
from safeflux_signing import claims, commitments, keys, strictjson
from safeflux_signing.commitments import Commitment, Fixed
from safeflux_signing.sign import add_claim, sign

MOMENT = datetime(2026, 1, 2, tzinfo=UTC)
SCHEMA = json.loads(files("safeflux_cli").joinpath("verify.schema.json").read_text(encoding="utf-8"))


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A release signed ten days ago, with an erasure report and provenance, and the keys beside it."""
    monkeypatch.setattr(module, "_now", lambda: MOMENT + timedelta(days=10))
    directory = tmp_path / "release"
    directory.mkdir()
    (directory / "model_index.json").write_text("{}")
    keys.new(tmp_path / "demo.key", None)
    keys.new(tmp_path / "gate.key", b"secret")
    made = claims.provenance(build_type="urn:x", builder="urn:x", parameters={})
    report = (ERASURE_REPORT, to_json(example()))
    sign(directory, keys.load_private(tmp_path / "demo.key"), release_id="demo 1", sequence=1, claims=[made, report], created=MOMENT)
    return directory


def run(release: Path, *options: str | Path) -> Result:
    return CliRunner().invoke(module.verify, [str(release), "--key", str(release.parent / "demo.pub"), *map(str, options)])


def required(*texts: str) -> list[str]:
    return [part for text in texts for part in ("--require", text)]


@pytest.mark.parametrize(
    ("texts", "code"),
    [
        (["provenance", "erasure-report", ERASURE_REPORT, "max-age=10d", "detection<=0.15", "retained>=0.9", "neighbours>=0.8"], 0),
        (["test-result"], 14),
        (["max-age=9d"], 13),
        (["detection<=0.05"], 15),
        (["retained>=0.99"], 15),
        (["no-such-metric<=1"], 15),
        (["detection<=0.05", "test-result"], 14),
        (["detection<=0.05", "test-result", "max-age=9d"], 13),
        (["detection<0.05"], 2),
    ],
)
def test_each_kind_of_requirement_has_its_exit_code(release: Path, texts: list[str], code: int) -> None:
    done = run(release, *required(*texts))
    assert done.exit_code == code, done.output
    if code == 0:
        assert all(f"  required  {text}\n" in done.stdout for text in texts)
    elif code != 2:
        assert done.stdout == ""
        assert "NOT what was required" in done.stderr


def test_a_claim_is_asked_for_whatever_it_says(release: Path) -> None:
    """As --help has it: who wants good numbers asks for limits."""
    said = [claims.outcome(configuration=[], failed=["sword/none/detection"]), (ERASURE_REPORT, to_json(example()) | {"verdict": "failed"})]
    sign(release, keys.load_private(release.parent / "demo.key"), release_id="demo 1", sequence=1, claims=said, created=MOMENT)
    assert run(release, *required("test-result", "erasure-report")).exit_code == 0
    assert run(release, *required("test-result", "erasure-report", "detection<=0.05")).exit_code == 15
    assert "a test-result of FAILED will do" in " ".join(CliRunner().invoke(module.verify, ["--help"]).stdout.split())


def test_a_report_that_its_publisher_added_is_held_to_what_was_fixed_before(release: Path) -> None:
    """The limits are those of an easier policy, under which nothing had been promised."""
    key, public = keys.load_private(release.parent / "demo.key"), keys.load_public(release.parent / "demo.pub")
    internal = {AUDIT_STARTED: strictjson.write_time(MOMENT)}
    made = claims.provenance(build_type="urn:x", builder="urn:x", parameters={}, internal=internal)
    line = commitments.seal(Commitment("policy demo", Fixed("ab" * 32, MOMENT)), key)
    sign(release, key, release_id="demo 1", sequence=1, claims=[made], commitment=line, created=MOMENT)
    wanted = required("commitment", "erasure-report", "detection<=0.15")
    assert run(release, *wanted).exit_code == 14
    add_claim(release, key, [public], (ERASURE_REPORT, to_json(example())))
    done = run(release, *wanted)
    assert done.exit_code == 14
    assert "[commitment-broken]" in done.stderr


def test_a_limit_is_held_against_bounds_and_the_line_is_named(release: Path) -> None:
    """sketch shows in 4 of 60 pictures, 6.7%, but the bound is 14.6%."""
    done = run(release, *required("detection<=0.1"))
    assert "detection<=0.1: sketch/ring-a-bell/detection [limit-missed]" in done.stderr
    assert "at most 0.1" in done.stderr
    assert "0.14" in done.stderr


def test_a_release_that_is_not_what_was_signed_is_not_held_against_anything(release: Path) -> None:
    (release / "model_index.json").write_text("[]")
    done = run(release, "--json", *required("detection<=0.05"))
    assert done.exit_code == 10
    assert json.loads(done.stdout)["requirements"] == [{"require": "detection<=0.05", "met": None}]


@pytest.mark.parametrize("outcome", ["good", "required", "short", "tampered", "no key", "usage"])
def test_json_is_of_the_published_shape_whatever_comes_out(release: Path, outcome: str) -> None:
    options: list[Any] = []
    if outcome == "tampered":
        (release / "evil\x1b.py").write_text("")
    elif outcome == "no key":
        (release.parent / "demo.pub").write_bytes((release.parent / "gate.pub").read_bytes())
    elif outcome != "good":
        options = required(*{"required": ["provenance", "max-age=11d"], "short": ["provenance", "max-age=1h"], "usage": ["?"]}[outcome])
    done = run(release, "--json", *options)
    said = json.loads(done.stdout)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(said, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert said["exit_code"] == done.exit_code
    assert said["verified"] == (outcome in ("good", "required"))
    assert [one["met"] for one in said["requirements"]] == {"required": [True, True], "short": [True, False], "usage": [None]}.get(
        outcome, []
    )


@pytest.mark.parametrize("where", ["_check_usage", "_requirements", "_short"])
@pytest.mark.parametrize("error", [ZeroDivisionError("by\n\x1b[2J 0"), ImportError("no such thing"), OSError(5, "broken disk")])
def test_a_defect_is_no_verdict(release: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, where, fail)
    monkeypatch.delenv("SAFEFLUX_TRACEBACK", raising=False)
    done = run(release, *required("provenance"))
    assert (done.exit_code, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"safeflux: internal error, the release was not judged: {type(error).__name__}: ")
    assert line.isprintable()
    in_json = run(release, "--json", *required("provenance"))
    said = json.loads(in_json.stdout)
    jsonschema.validate(said, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert (in_json.exit_code, said["exit_code"], said["verified"], in_json.stderr) == (1, 1, False, done.stderr)
    assert [one["code"] for one in said["findings"]] == ["internal-error"]
    assert said["requirements"] == [{"require": "provenance", "met": None}]
    monkeypatch.setenv("SAFEFLUX_TRACEBACK", "1")
    assert "Traceback" in run(release).stderr


def test_the_shape_tells_the_two_outcomes_apart(release: Path) -> None:
    said = json.loads(run(release, "--json").stdout)
    for lie in ({"verified": False}, {"exit_code": 10}, {"files": []}, {"key": None}, {"release": {}}, {"schema": "safeflux-verify/2"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(said | lie, SCHEMA, cls=jsonschema.Draft202012Validator)
    for field in SCHEMA["required"]:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({name: value for name, value in said.items() if name != field}, SCHEMA)


def test_a_summary_is_written_once_all_is_well(release: Path) -> None:
    file = release.parent / "vsa.json"
    assert run(release, "--emit-vsa", file, *required("max-age=1h")).exit_code == 13
    assert not file.exists()
    assert run(release, "--emit-vsa", file, *required("max-age=11d")).exit_code == 0
    statement = json.loads(file.read_bytes())
    assert statement["subject"][0]["digest"] == json.loads(run(release, "--json").stdout)["digests"]
    predicate = statement["predicate"]
    assert predicate["resourceUri"] == "urn:safeflux:release:demo%201"
    assert predicate["policy"]["annotations"]["require"] == ["max-age=11d"]
    before = file.read_bytes()
    again = run(release, "--emit-vsa", file)
    assert (again.exit_code, file.read_bytes()) == (2, before)
    assert "never replaces" in again.stderr


def test_a_summary_may_be_signed(release: Path) -> None:
    file, secret = release.parent / "vsa.json", release.parent / "secret"
    secret.write_text("secret\n")
    gate = ("--emit-vsa", file, "--vsa-key", release.parent / "gate.key")
    assert run(release, *gate).exit_code == 2
    assert not file.exists()
    assert run(release, *gate, "--passphrase-file", secret).exit_code == 0
    from safeflux_signing import dsse

    bundle = dsse.loads(file.read_bytes(), "vsa.json")
    assert dsse.signer(bundle, [keys.load_public(release.parent / "gate.pub")], "vsa.json", "it")
    assert json.loads(base64.b64decode(json.loads(file.read_bytes())["dsseEnvelope"]["payload"])) == json.loads(bundle.payload)


@pytest.mark.parametrize("options", [["--vsa-key", "gate.key"], ["--emit-vsa", "release/vsa.json"], ["--emit-vsa", "nowhere/vsa.json"]])
def test_a_summary_that_cannot_be_is_wrong_usage(release: Path, options: list[str]) -> None:
    assert run(release, options[0], release.parent / options[1]).exit_code == 2
    assert run(release).exit_code == 0
