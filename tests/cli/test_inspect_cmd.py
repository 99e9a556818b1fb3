"""The command that shows and does not judge."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from report_example import CONCEPTS, example

from safeflux.report import to_json
from safeflux.verify import ERASURE_REPORT
from safeflux_cli.inspect_cmd import inspect
from safeflux_signing import claims, commitments, dsse, keys
from safeflux_signing.commitments import Commitment, Fixed
from safeflux_signing.sign import cosign, sign

sys.path.insert(0, str(Path(__file__).parent.parent / "signing"))  # the stand-in for Sigstore serves two directories of tests
from sigstore_fakes import ISSUER, SIGNER, Sigstore

LOUD = "NOTHING HERE WAS CHECKED"


def release(place: Path, report: object, release_id: str = "demo-1.0") -> Path:
    directory = place / "release"
    (directory / "vae").mkdir(parents=True)
    (directory / "vae" / "weights.safetensors").write_bytes(bytes(12345))
    keys.new(place / "demo.key", None)
    said = [claims.provenance(build_type="urn:x", builder="urn:x", parameters={}), (ERASURE_REPORT, report)]
    sign(directory, keys.load_private(place / "demo.key"), release_id=release_id, sequence=4, claims=said)
    return directory


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(inspect, list(map(str, arguments)))


def test_it_shows_everything_and_says_first_and_last_that_nothing_was_checked(tmp_path: Path) -> None:
    directory = release(tmp_path, to_json(example()))
    (directory / "evil.py").write_text("")
    done = run(directory)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith(LOUD)
    assert lines[-1].startswith(LOUD)
    for said in (
        *("demo-1.0, sequence 4", "12,345  vae/weights.safetensors", "evil.py  (not in the manifest)", "1 in the manifest, 2 there"),
        *(f"{ERASURE_REPORT} (required", keys.hint(keys.load_public(tmp_path / "demo.pub")), "says passed", ", ".join(CONCEPTS)),
        "13 of 13 lines with a limit said to have passed",
    ):
        assert said in done.stdout, said
    assert "verified" not in done.stdout


def test_json_says_so_too(tmp_path: Path) -> None:
    said = json.loads(run(release(tmp_path, to_json(example())), "--json").stdout)
    assert (said["schema"], said["checked"], said["troubles"]) == ("safeflux-inspect/1", False, [])
    assert said["release"]["id"] == "demo-1.0"
    assert [(file["name"], file["size"]) for file in said["files"]] == [("vae/weights.safetensors", 12345)]
    [report] = said["reports"]
    assert (report["verdict"], report["concepts"]) == ("passed", list(CONCEPTS))


@pytest.mark.parametrize(
    "report",
    [
        *(None, [], "x", 7, {}, {"concepts": 3, "findings": 7}, {"findings": [None, {"model": "erased", "limit": 1}, {"model": []}]}),
        {"name": "\x1b[2J\nverified: x", "version": {"a": ["\x1b]0;x\x07"]}, "verdict": "\u202edessap", "concepts": [None, {"\x1b": 1}]},
        {"name": "x" * 10**6, "concepts": ["\n"] * 3},
    ],
)
def test_hostile_reports_and_names_neither_crash_it_nor_steer_the_terminal(tmp_path: Path, report: object) -> None:
    directory = release(tmp_path, report, release_id="a [31m b")
    (directory / "b\x1b[2J\nverified: y\udcff").write_text("")
    done = run(directory)
    assert done.exit_code == 0
    assert done.exception is None
    assert all(c.isprintable() or c == "\n" for c in done.stdout)
    assert not any(line.startswith("verified") for line in done.stdout.splitlines())
    assert max(map(len, done.stdout.splitlines())) < 2000
    assert json.loads(run(directory, "--json").stdout)["checked"] is False


def test_without_a_signature_there_is_still_something_to_see(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    done = run(tmp_path)
    assert done.exit_code == 0
    assert "[signature-missing]" in done.stdout
    assert json.loads(run(tmp_path, "--json").stdout)["release"] is None
    assert run(tmp_path / "nowhere").exit_code == 2


def lines(done: Result) -> list[str]:
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


def test_what_the_claims_say_is_shown(tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "f").write_text("x")
    keys.new(tmp_path / "demo.key", None)
    key, moment = keys.load_private(tmp_path / "demo.key"), datetime(2026, 1, 2, tzinfo=UTC)
    base = claims.resource("pkg:huggingface/acme/flux@1", {"sha256": "ab"}, "base model")
    environment = {"python": "3.11.7", "device": "cpu"}
    made = claims.provenance(
        build_type="urn:kind", builder="urn:tool", parameters={"method": "mask"}, internal={"seed": 7, "environment": environment},
        dependencies=[base], versions={"torch": "2.13.0"},
    )  # fmt: skip
    tests = claims.outcome(configuration=[], passed=["a", "b"], failed=["sword/none/detection"])
    line = commitments.seal(Commitment("policy x", Fixed("cd" * 32, moment), (Fixed("ef" * 32, moment),)), key)
    said = [made, tests, ("urn:other", {"found": 0.25})]
    sign(tmp_path / "release", key, release_id="x", sequence=1, claims=said, commitment=line)
    shown = lines(run(tmp_path / "release"))
    for text in (
        *("made by urn:tool as urn:kind", 'from    base model: pkg:huggingface/acme/flux@1 {"sha256": "ab"}', "with    method = mask"),
        *("with    seed = 7", 'with    environment = {"device": "cpu", "python": "3.11.7"}', 'tools   {"torch": "2.13.0"}'),
        *("says FAILED: 2 passed, 0 warned, 1 failed", "failed  sword/none/detection", '{"found": 0.25}'),
        f"fixed {'cd' * 32} at 2026-01-02T00:00:00Z; 1 had been fixed before",
    ):
        assert f"          {text}" in shown, text
    in_json = json.loads(run(tmp_path / "release", "--json").stdout)["claims"]
    assert [one["predicate"] for one in in_json[1:]] == json.loads(json.dumps([predicate for _, predicate in said]))
    assert in_json[0]["digests"] == {"sha256": "cd" * 32}
    assert in_json[0]["key_hint"] == keys.hint(key.public_key())


@pytest.mark.parametrize("kind", [claims.PROVENANCE, claims.TEST_RESULT, "urn:x"])
@pytest.mark.parametrize(
    "said",
    [
        *(None, [], "\x1b[2J", 7, {}, {"buildDefinition": 7, "runDetails": []}, {"passedTests": 7, "failedTests": [None, {"\x1b": 1}]}),
        {"buildDefinition": {"resolvedDependencies": [7, {}, {"uri": ["\x1b"]}], "externalParameters": {"\n": "\nverified"}}},
        {"failedTests": ["x"] * 10**5, "buildDefinition": {"internalParameters": {str(n): n for n in range(1000)}}},
        {"failedTests": ["x" * 10**6], "runDetails": {"builder": {"id": "y" * 10**6, "version": "z" * 10**6}}},
    ],
)
def test_hostile_claims_neither_crash_it_nor_fill_the_screen(tmp_path: Path, kind: str, said: Any) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "f").write_text("x")
    keys.new(tmp_path / "demo.key", None)
    sign(tmp_path / "release", keys.load_private(tmp_path / "demo.key"), release_id="x", sequence=1, claims=[(kind, said)])
    shown = lines(run(tmp_path / "release"))
    assert len(shown) < 80
    assert max(map(len, shown)) < 2000
    assert all(line.isprintable() for line in shown)
    assert not any(line.startswith("verified") for line in shown)
    assert json.loads(run(tmp_path / "release", "--json").stdout)["claims"][0]["predicate"] == said


def test_everybody_who_is_said_to_have_signed_is_shown(tmp_path: Path) -> None:
    directory = release(tmp_path, {})
    keys.new(tmp_path / "lab.key", None)
    lab, public = keys.load_private(tmp_path / "lab.key"), keys.load_public(tmp_path / "demo.pub")
    cosign(directory, lab, [public])
    hints = [keys.hint(public), keys.hint(lab.public_key())]
    shown = lines(run(directory))
    assert f"key       {hints[0]} (a hint, not an identity)" in shown
    assert f"cosigner  {hints[1]} (a hint, not an identity)" in shown
    said = json.loads(run(directory, "--json").stdout)
    assert (said["key_hint"], said["identity"], said["cosigners"]) == (hints[0], None, [{"key_hint": hints[1], "identity": None}])


def test_whom_a_certificate_names_is_shown_and_what_it_signs(tmp_path: Path) -> None:
    directory = release(tmp_path, {})
    payload = dsse.loads((directory / "model.sig").read_bytes(), "model.sig").payload
    (directory / "model.sig").write_bytes(Sigstore().sign(payload))
    shown = lines(run(directory))
    assert f"identity  certificate of {SIGNER}, attested by {ISSUER} (not checked)" in shown
    assert any(line.startswith("files     1 in the manifest, 1 there") for line in shown)
    assert not any(line.startswith(("trouble", "key ")) for line in shown)
    said = json.loads(run(directory, "--json").stdout)
    assert (said["key_hint"], said["identity"]) == (None, {"identity": SIGNER, "issuer": ISSUER})
    assert said["release"]["id"] == "demo-1.0"
    (directory / "model.sig").unlink()
    assert "key       none" in lines(run(directory))
