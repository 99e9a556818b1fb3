"""What a user of a release runs opens no socket, not even one that would fail."""

from __future__ import annotations

import shutil
import socket
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

import safeflux
from safeflux_cli.main import safeflux as program
from safeflux_signing import keys
from safeflux_signing.sign import sign
from safeflux_signing.verify import verify


class SocketOpenedError(BaseException):
    """No Exception, so that nobody who tries the network first can go on without it."""


@pytest.fixture(scope="module")
def signed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("signed")
    release = Path(shutil.copytree(tiny, place / "release"))
    keys.new(place / "demo.key", None)
    sign(release, keys.load_private(place / "demo.key"), release_id="tiny", sequence=1)
    return release


@pytest.fixture(autouse=True)
def _no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def blocked(*_: object, **__: object) -> None:
        raise SocketOpenedError

    for name in ("socket", "create_connection", "getaddrinfo", "socketpair"):
        monkeypatch.setattr(socket, name, blocked)


def test_the_block_blocks() -> None:
    with pytest.raises(SocketOpenedError):
        urllib.request.urlopen("http://127.0.0.1:9")


@pytest.mark.parametrize("command", [["verify", "{}", "--key", "{}/../demo.pub"], ["inspect", "{}"], ["inspect", "{}", "--json"]])
def test_commands(signed: Path, command: list[str]) -> None:
    done = CliRunner().invoke(program, [part.format(signed) for part in command])
    assert done.exit_code == 0, done.output


def test_verify(signed: Path) -> None:
    assert verify(signed, [keys.load_public(signed.parent / "demo.pub")]).release is not None


def test_load(signed: Path) -> None:
    assert safeflux.load(signed, trust=signed.parent / "demo.pub").transformer is not None
