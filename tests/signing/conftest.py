"""A small signed release, and hands to break it with."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from signed_release import CLAIMS, MOMENT, fill
from sigstore_fakes import ACME, Sigstore
from sigstore_services import Services, token, write_config

from safeflux_signing import dsse, signers, strictjson
from safeflux_signing.errors import SigningError
from safeflux_signing.keynames import SigstoreName
from safeflux_signing.keys import PrivateKey
from safeflux_signing.sign import sign
from safeflux_signing.trust import TrustedKey, TrustStore
from safeflux_signing.verify import verify


@pytest.fixture(scope="session")
def key() -> PrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="session")
def other() -> PrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def entry(key: PrivateKey) -> TrustedKey:
    """``key``'s public half in a trust store."""
    return TrustedKey(key.public_key(), "Acme")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The files of a release, unsigned."""
    return fill(tmp_path / "release")


@pytest.fixture
def release(bare: Path, key: PrivateKey) -> Path:
    """The same, signed with ``key``, with three claims."""
    sign(bare, key, release_id="demo-1.0", sequence=3, claims=CLAIMS, created=MOMENT)
    return bare


@pytest.fixture
def refused(key: PrivateKey) -> Callable[[Path], SigningError]:
    """The error with which a directory is refused under ``key``'s public half."""

    def refuse(directory: Path) -> SigningError:
        with pytest.raises(SigningError) as caught:
            verify(directory, [key.public_key()])
        return caught.value

    return refuse


@pytest.fixture
def resign(key: PrivateKey) -> Callable[[Path, Callable[[Any], Any]], None]:
    """Sign a changed manifest with the right key: what a thief of the key, or a careless tool, could do."""

    def change(directory: Path, edit: Callable[[Any], Any]) -> None:
        path = directory / "model.sig"
        statement = json.loads(base64.b64decode(json.loads(path.read_text())["dsseEnvelope"]["payload"]))
        edited = edit(statement)
        payload = edited if isinstance(edited, bytes) else strictjson.dumps(statement)
        path.write_bytes(dsse.dumps(dsse.seal(payload, key)) + b"\n")

    return change


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def sigstore() -> Sigstore:
    return Sigstore()


@pytest.fixture
def acme(tmp_path: Path, sigstore: Sigstore) -> TrustStore:
    """A trust store that trusts one identity, as ``sigstore`` certifies it."""
    sigstore.write_root(tmp_path / "trusted_root.json")
    return TrustStore(identities=(ACME,), sigstore_root="trusted_root.json", home=tmp_path)


@pytest.fixture
def certified(bare: Path, key: PrivateKey, sigstore: Sigstore) -> Callable[..., Path]:
    """The release signed by ``sigstore``, with the same statement as another tool would sign: one that says nothing of a release."""
    sign(bare, key, release_id="x", sequence=1)
    statement = json.loads(dsse.loads((bare / "model.sig").read_bytes(), "x").payload)
    del statement["subject"][0]["annotations"]
    payload = strictjson.dumps(statement)

    def make(**options: Any) -> Path:
        (bare / "model.sig").write_bytes(sigstore.sign(payload, **options))
        return bare

    return make


@pytest.fixture
def services(sigstore: Sigstore, monkeypatch: pytest.MonkeyPatch) -> Services:
    """What ``sigstore`` answers whoever signs by it, with a token at hand."""
    pytest.importorskip("sigstore", reason="sigstore is not installed: pip install 'safeflux[sigstore]'")
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", token())
    return Services(sigstore).attach(monkeypatch)


@pytest.fixture
def keyless(services: Services, tmp_path: Path) -> signers.AnySigner:
    """Somebody who signs by it, whom ``acme`` trusts."""
    return signers.load(SigstoreName(write_config(services.sigstore, tmp_path / "sigstore.json")))
