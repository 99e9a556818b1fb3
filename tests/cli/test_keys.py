"""``safeflux keys``: the ways to give a passphrase, and what the commands say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from safeflux_cli.keys import KINDS, keys
from safeflux_signing.errors import InputError
from safeflux_signing.keys import KINDS as KEY_KINDS
from safeflux_signing.keys import key_id, load_private, load_public


def run(*arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(keys, [str(argument) for argument in arguments], env=environment)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "demo.key"


def test_a_new_key_says_where_it_is_and_who_it_is(path: Path) -> None:
    done = run("new", path, "--no-passphrase")
    assert done.exit_code == 0
    public = load_public(path.with_suffix(".pub"))
    for said in (str(path), str(path.with_suffix(".pub")), "unencrypted", key_id(public)):
        assert said in done.stdout
    assert load_private(path).public_key() == public
    assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_is_overwritten(path: Path) -> None:
    run("new", path, "--no-passphrase")
    before = path.read_bytes()
    done = run("new", path, "--no-passphrase")
    assert done.exit_code == 2
    assert "never overwritten" in done.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize("way", ["file", "env", "fd"])
def test_a_passphrase_can_come_from_file_environment_or_descriptor(path: Path, tmp_path: Path, way: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"open sesame\n")
    with secret.open("rb") as stream:
        places: dict[str, object] = {"file": secret, "env": "PW", "fd": stream.fileno()}
        done = run("new", path, f"--passphrase-{way}", places[way], PW="open sesame")
    assert done.exit_code == 0, done.output
    assert "encrypted" in done.stdout
    assert "unencrypted" not in done.stdout
    assert load_private(path, b"open sesame").public_key() == load_public(path.with_suffix(".pub"))
    with pytest.raises(InputError):
        load_private(path)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--passphrase-env", "NOT_SET_ANYWHERE"),
        ("--passphrase-file", "/nonexistent/secret"),
        ("--passphrase-fd", 987),
        ("--passphrase-env", "HOME", "--no-passphrase"),
        ("--passphrase-file", os.devnull),
    ],
    ids=str,
)
def test_without_one_clear_passphrase_no_key_is_made(path: Path, options: tuple[object, ...]) -> None:
    done = run("new", path, *options)
    assert done.exit_code == 2
    assert done.stderr
    assert list(path.parent.iterdir()) == []


def test_on_a_terminal_it_asks_twice(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safeflux_cli.keyfiles.asking", lambda: True)
    done = CliRunner().invoke(keys, ["new", str(path)], input="secret\nsecret\n")
    assert done.exit_code == 0, done.output
    assert "secret" not in done.output
    assert load_private(path, b"secret")
    shown = CliRunner().invoke(keys, ["show", str(path)], input="secret\n")
    assert key_id(load_public(path.with_suffix(".pub"))) in shown.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_made_shown_and_exported(path: Path, kind: str) -> None:
    made = run("new", path, "--kind", kind, "--no-passphrase")
    assert made.exit_code == 0
    assert ("model_signing" in made.stderr) == (not KEY_KINDS[kind].stock)
    assert f"type    {KEY_KINDS[kind].in_words}, public half" in run("show", path.with_suffix(".pub")).stdout
    for half in (path, path.with_suffix(".pub")):
        assert run("export", half).stdout == path.with_suffix(".pub").read_text()


def test_the_kinds_offered_are_those_there_are() -> None:
    assert tuple(KEY_KINDS) == KINDS
    said = " ".join(run("new", "--help").stdout.split())
    assert "model_signing, verifies signatures by p256, p384 and p521" in said


def test_what_cannot_be_exported_is_refused(path: Path) -> None:
    run("new", path, "--passphrase-env", "PW", PW="x")
    assert run("export", path, "--passphrase-env", "PW", PW="x").stdout == path.with_suffix(".pub").read_text()
    for done in (run("export", path), run("export", path, "--passphrase-env", "PW", PW="y"), run("export", path.parent)):
        assert done.exit_code == 2
        assert done.stdout == ""


def test_both_halves_show_the_same_key(path: Path) -> None:
    run("new", path, "--passphrase-env", "PW", PW="x")
    public = run("show", path.with_suffix(".pub"))
    private = run("show", path, "--passphrase-env", "PW", PW="x")
    assert (public.exit_code, private.exit_code) == (0, 0)
    assert public.stdout.splitlines()[0] == private.stdout.splitlines()[0]
    assert "ECDSA P-256, public half" in public.stdout
    assert "ECDSA P-256, private half" in private.stdout
    for done in (run("show", path), run("show", path, "--passphrase-env", "PW", PW="y"), run("show", path.parent)):
        assert done.exit_code == 2
        assert done.stdout == ""
