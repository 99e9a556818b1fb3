"""``make fuzz`` throws hostile bytes at every reader there is, guided or not at all, and finds out one that errs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import parsers
import pytest
from targets import ACME, AUDIT, KEY, NEW, PAYLOAD, SECOND, TARGETS, Target, bundle

from safeflux_signing import dsse, keyless, keys, strictjson, trustfile
from safeflux_signing.errors import InputError, UnsafeReleaseError

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The script as a program."""
    command = [sys.executable, "fuzz/parsers.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", TARGETS)
def test_good_documents_are_read_and_changed_ones_refused_in_the_readers_own_words(name: str) -> None:
    if name == "certificate":
        pytest.importorskip("sigstore", reason="sigstore is not installed: pip install 'safeflux[sigstore]'")
    target = TARGETS[name]
    assert all(parsers.one(target, data) for data in target.seeds)
    for data in islice(parsers.inputs(target, seed=7), 300):
        parsers.one(target, data)


def stumbles(data: bytes) -> None:
    raise KeyError(data)


@pytest.mark.parametrize(
    ("target", "error"),
    [(Target(stumbles, []), KeyError), (Target(bundle, [], InputError), UnsafeReleaseError)],
    ids=["stumbles", "blames"],
)
def test_an_input_that_finds_something_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], target: Target, error: type[Exception]
) -> None:
    monkeypatch.setattr(parsers, "HERE", tmp_path)
    with pytest.raises(error):
        parsers.one(target, b"hostile")
    [file] = tmp_path.iterdir()
    assert file.read_bytes() == b"hostile"
    assert str(file) in capsys.readouterr().err


def with_another_signature(lines: bytes) -> bytes:
    """The first of ``lines`` under a signature by the same key of something else, and the others."""
    first, *rest = lines.splitlines(keepends=True)
    other = dsse.seal(b"something else", KEY if dsse.loads(first, "f").hint == keys.hint(KEY.public_key()) else SECOND)
    return b"".join((dsse.dumps(replace(dsse.loads(first, "f"), signature=other.signature)) + b"\n", *rest))


@pytest.mark.parametrize("name", ["claims", "cosignatures", "rotation"])
def test_a_reader_that_checks_no_signatures_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(parsers, "HERE", tmp_path)
    forged = with_another_signature(TARGETS[name].seeds[0])
    parsers.one(TARGETS[name], forged)
    monkeypatch.setattr(keys, "verifies", lambda *_: True)
    with pytest.raises(AssertionError):
        parsers.one(TARGETS[name], forged)


def test_a_reader_that_believes_a_certificate_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsers, "HERE", tmp_path)
    believed = ACME, NEW.public_key(), PAYLOAD, None
    monkeypatch.setattr(keyless, "signer", lambda *_: believed)
    with pytest.raises(AssertionError):
        parsers.one(TARGETS["certificate"], b"")


@pytest.mark.parametrize("believed", [(ACME, AUDIT), (replace(ACME, publisher="Evil"), AUDIT), (ACME, AUDIT.replace(b'"x":1', b'"x":2'))])
def test_a_reader_that_believes_a_claim_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, believed: Any) -> None:
    monkeypatch.setattr(parsers, "HERE", tmp_path)
    identity, payload = believed
    monkeypatch.setattr(keyless, "signer", lambda *_: (identity, NEW.public_key(), payload, None))
    good = TARGETS["claims"].seeds[1]
    other = json.loads(good.splitlines()[-1])
    other["dsseEnvelope"]["signatures"][0]["sig"] = "AAAA"
    with pytest.raises(AssertionError):
        parsers.one(TARGETS["claims"], TARGETS["claims"].seeds[0] + strictjson.dumps(other) + b"\n")


def test_a_trust_file_that_is_written_with_a_loss_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsers, "HERE", tmp_path)
    write = trustfile.dumps
    monkeypatch.setattr(trustfile, "dumps", lambda store: write(replace(store, thresholds=())))
    with pytest.raises(AssertionError):
        parsers.one(TARGETS["trust"], TARGETS["trust"].seeds[0])


def test_make_fuzz_is_guided_through_every_target_for_ten_minutes() -> None:
    values = dict(re.findall(r"^([A-Z_]+) = (.*)$", MAKEFILE, re.MULTILINE))
    assert values["FUZZED"].split() == list(TARGETS)
    assert int(values["SECONDS_EACH"]) * len(TARGETS) == 600
    assert "python fuzz/parsers.py $$target --guided --seconds $(SECONDS_EACH) || exit 1" in MAKEFILE


def test_guided_never_turns_into_something_else(tmp_path: Path) -> None:
    (tmp_path / "atheris.py").write_text("raise ImportError")
    done = run("bundle", "--guided", "--seconds", "1", PYTHONPATH=os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", ""))))
    assert (done.returncode, done.stdout) == (1, "")
    assert "--guided needs atheris: pip install" in done.stderr


def test_a_guided_run_ends_by_itself_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed: pip install 'safeflux[fuzz]'")
    pytest.importorskip("sigstore", reason="sigstore is not installed: pip install 'safeflux[sigstore]'")
    done = run("rotation", "--guided", "--seconds", "1", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert re.search(r"Done [1-9][0-9]+ runs", done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_run_at_random_tells_how_to_repeat_it() -> None:
    done = run("commitment", "--seconds", "0.2", "--seed", "5")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["target"], told["seed"]) == ("commitment", 5)
    assert 0 < told["read"] < told["tried"]
    assert run("commitments").returncode == 2
