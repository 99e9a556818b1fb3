"""The command that shows and does not judge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from report_example import CONCEPTS, example

from safeflux.report import to_json
from safeflux.verify import ERASURE_REPORT
from safeflux_cli.inspect_cmd import inspect
from safeflux_signing import claims, keys
from safeflux_signing.sign import sign

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
