"""``safeflux keys trust`` and its siblings, and what ``safeflux verify`` makes of the file they keep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from safeflux_cli.keys import keys
from safeflux_cli.verify import verify
from safeflux_signing import claims, trustfile
from safeflux_signing.keys import key_id, load_private, load_public, new
from safeflux_signing.sign import sign
from safeflux_signing.trust import Revocation

NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of nobody, with the keys of three publishers in it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("SAFEFLUX_TRUST", raising=False)
    monkeypatch.setattr("safeflux_cli.keys_trust._now", lambda: NOW)
    for name in ("acme", "next", "lab"):
        new(tmp_path / f"{name}.key", None)
    return tmp_path


@pytest.fixture
def release(home: Path) -> Path:
    directory = home / "release"
    directory.mkdir()
    (directory / "model_index.json").write_text("{}")
    _sign(home, 5)
    return directory


def _sign(home: Path, sequence: int, by: str = "acme", made: Sequence[tuple[str, object]] = ()) -> None:
    key = load_private(home / f"{by}.key")
    sign(home / "release", key, release_id=f"demo-1.{sequence}-abc", sequence=sequence, name="demo", claims=made)


def run(*arguments: object) -> Result:
    done = CliRunner().invoke(keys, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def check(release: Path, *options: str) -> Result:
    return CliRunner().invoke(verify, [str(release), *options])


def _id(home: Path, name: str) -> str:
    return key_id(load_public(home / f"{name}.pub"))


def test_nothing_trusted_is_said_with_what_to_do(release: Path) -> None:
    done = check(release)
    assert done.exit_code == 12
    assert "no-key" in done.stderr
    assert "safeflux keys trust" in done.stderr


def test_a_key_is_trusted_shown_used_and_dropped(release: Path, home: Path) -> None:
    done = run("trust", home / "acme.pub", "--publisher", "Acme Models", "--model", "demo-*", "--not-after", "2099-12-31")
    place = home / ".config" / "safeflux" / "trust.toml"
    assert done.exit_code == 0, done.output
    for said in (_id(home, "acme"), "Acme Models", "publisher", "demo-*", "until 2099-12-31 00:00:00 UTC", str(place)):
        assert said in done.stdout
    verified = check(release)
    assert verified.exit_code == 0, verified.output
    assert f"{_id(home, 'acme')} (Acme Models)" in verified.stdout
    shown = json.loads(check(release, "--json").stdout)
    assert (shown["key"], shown["publisher"], shown["cosigners"]) == (_id(home, "acme"), "Acme Models", [])
    again = run("trust", home / "acme.pub")
    assert (again.exit_code, again.stdout) == (2, "")
    assert "trust-repeated" in again.stderr
    assert run("untrust", _id(home, "acme")).exit_code == 0
    assert check(release).exit_code == 12
    assert run("untrust", home / "acme.pub").exit_code == 2


def test_the_trust_file_can_be_elsewhere(release: Path, home: Path) -> None:
    mine = home / "mine" / "trust.toml"
    assert run("trust", home / "acme.pub", "--trust", mine).exit_code == 0
    assert trustfile.read(mine).entries[0].publisher == "acme"
    assert check(release).exit_code == 12
    assert check(release, "--trust", str(mine)).exit_code == 0
    assert check(release, "--trust", str(home / "none.toml")).exit_code == 2
    assert check(release, "--key", str(home / "acme.pub")).exit_code == 0
    both = check(release, "--trust", str(mine), "--key", str(home / "acme.pub"))
    assert both.exit_code == 2
    assert "not both" in both.stderr


def test_private_keys_and_wrong_words_are_refused(home: Path) -> None:
    private = run("trust", home / "acme.key")
    assert private.exit_code == 2
    assert "key-private" in private.stderr
    for options in (("--publisher", "a\nb"), ("--model", ""), ("--publisher", "x" * 501)):
        done = run("trust", home / "acme.pub", *options)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "trust-invalid" in done.stderr
    for usage in (("--role", "owner"), ("--not-after", "soon")):
        assert run("trust", home / "acme.pub", *usage).exit_code == 2
    assert not (home / ".config" / "safeflux" / "trust.toml").exists()


@pytest.mark.parametrize(
    ("options", "exit_code", "code"),
    [
        (("--model", "other-*"), 12, "key-namespace"),
        (("--role", "auditor"), 12, "key-role"),
        (("--not-after", "2020-01-01"), 13, "key-expired"),
        (("--not-before", "2999-01-01T00:00:00Z"), 13, "key-not-yet-valid"),
    ],
)
def test_what_a_key_is_trusted_with_decides(release: Path, home: Path, options: tuple[str, ...], exit_code: int, code: str) -> None:
    run("trust", home / "acme.pub", *options)
    done = check(release)
    assert (done.exit_code, done.stdout) == (exit_code, "")
    assert f"[{code}]" in done.stderr


def test_keys_and_releases_are_revoked_with_a_reason(release: Path, home: Path) -> None:
    run("trust", home / "acme.pub")
    assert run("revoke", "--release", "demo-1.5-abc", "--reason", "draws what it must not").exit_code == 0
    done = check(release)
    assert done.exit_code == 13
    assert "draws what it must not" in done.stderr
    _sign(home, 6)
    assert check(release).exit_code == 0
    assert run("revoke", home / "acme.pub", "--reason", "stolen").exit_code == 0
    stolen = check(release)
    assert (stolen.exit_code, "revoked on 2026-05-01: stolen" in stolen.stderr) == (13, True)
    assert trustfile.trusted([], None).entries[0].revoked == Revocation("stolen", NOW)
    assert run("revoke", _id(home, "acme"), "--reason", "again").exit_code == 2
    assert run("trust", home / "acme.pub").exit_code == 2
    for usage in (("revoke", "--reason", "x"), ("revoke", _id(home, "acme"), "--release", "x", "--reason", "x"), ("revoke", "x")):
        assert run(*usage).exit_code == 2
    assert run("revoke", "0" * 64, "--reason", "x").exit_code == 2


def test_a_key_hands_over_to_the_next(release: Path, home: Path) -> None:
    run("trust", home / "acme.pub", "--publisher", "Acme", "--model", "demo-*")
    statement = home / "rotation.jsonl"
    made = run("rotate", home / "acme.key", "--to", home / "next.pub", "--out", statement)
    assert made.exit_code == 0, made.output
    assert _id(home, "next") in made.stdout
    assert run("rotate", home / "acme.key", "--to", home / "next.pub", "--out", statement).exit_code == 2
    changed = home / "changed.jsonl"
    changed.write_bytes(statement.read_bytes().replace(b'"hint":"', b'"hint":"0', 1))
    assert run("apply", changed).exit_code == 11
    nowhere = run("apply", home / "none")
    assert (nowhere.exit_code, "rotation-unreadable" in nowhere.stderr) == (2, True)
    assert check(release).exit_code == 0
    done = run("apply", statement)
    assert done.exit_code == 0, done.output
    for said in (_id(home, "next"), "Acme", "demo-*"):
        assert said in done.stdout
    old = check(release)
    assert (old.exit_code, f"replaced by key {_id(home, 'next')}" in old.stderr) == (13, True)
    _sign(home, 6, "next")
    assert check(release).exit_code == 0
    assert run("apply", statement).exit_code == 13


def test_a_stranger_hands_over_nothing(home: Path) -> None:
    run("trust", home / "acme.pub")
    before = trustfile.trusted([], None)
    run("rotate", home / "lab.key", "--to", home / "next.pub", "--out", home / "rotation.jsonl")
    assert run("apply", home / "rotation.jsonl").exit_code == 12
    assert trustfile.trusted([], None) == before


def test_older_releases_than_those_seen_are_refused_if_asked_for(release: Path, home: Path) -> None:
    run("trust", home / "acme.pub")
    run("trust", home / "lab.pub", "--remember")
    assert check(release).exit_code == 0
    _sign(home, 4)
    older = check(release)
    assert (older.exit_code, "release-rollback" in older.stderr) == (13, True)
    assert json.loads((home / ".config" / "safeflux" / "trust.seen.json").read_text())["highest"] == {"demo": 5}


def test_one_that_falls_short_of_what_is_required_does_not_lock_out_the_one_before(release: Path, home: Path, tmp_path: Path) -> None:
    run("trust", home / "acme.pub", "--remember")
    seen, summary = home / ".config" / "safeflux" / "trust.seen.json", tmp_path / "vsa.json"
    short = check(release, "--require", "provenance", "--emit-vsa", str(summary))
    assert (short.exit_code, "NOT what was required" in short.stderr) == (14, True)
    assert not seen.exists()
    _sign(home, 4, made=[claims.provenance(build_type="urn:x", builder="urn:x", parameters={})])
    assert check(release, "--require", "provenance").exit_code == 0
    assert json.loads(seen.read_text())["highest"] == {"demo": 4}
    _sign(home, 3)
    older = check(release, "--require", "provenance", "--emit-vsa", str(summary))
    assert (older.exit_code, "release-rollback" in older.stderr, "NOT verified" in older.stderr) == (13, True, True)
    assert not summary.exists()


def test_several_have_to_sign_where_the_file_says_so(release: Path, home: Path) -> None:
    run("trust", home / "acme.pub")
    run("trust", home / "lab.pub", "--role", "auditor", "--not-after", f"{datetime.now(UTC) + timedelta(days=900):%Y-%m-%d}")
    place = trustfile.default_path()
    place.write_text(place.read_text() + '\n[[threshold]]\nmodels = ["*"]\nroles = ["publisher", "auditor"]\nkeys = 2\n')
    alone = check(release)
    assert (alone.exit_code, "signatures-too-few" in alone.stderr) == (14, True)
    assert run("cosign", release, "--key", home / "lab.key", "--signed-by", home / "lab.pub").exit_code == 12
    signed = run("cosign", release, "--key", home / "lab.key", "--signed-by", home / "acme.pub")
    assert signed.exit_code == 0, signed.output
    done = check(release)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.count("  key ") == 2
    assert json.loads(check(release, "--json").stdout)["cosigners"] == [_id(home, "lab")]
