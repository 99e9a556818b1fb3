"""Hostile envelopes: what stands outside the signed bytes must not change what a reader sees."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from signed_release import codes

from safeflux_signing import dsse
from safeflux_signing.errors import BadSignatureError, SigningError, UnsafeReleaseError

Refuse = Callable[[Path], SigningError]


def _material(bundle: Any) -> Any:
    return bundle["verificationMaterial"]


def _envelope(bundle: Any) -> Any:
    return bundle["dsseEnvelope"]


HOSTILE: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "second signature": ("signature-count", lambda b: _envelope(b)["signatures"].append({"sig": "AAAA", "keyid": ""})),
    "no signature": ("signature-count", lambda b: _envelope(b)["signatures"].clear()),
    "no list of signatures": ("signature-count", lambda b: _envelope(b).update(signatures="x")),
    "a key id": ("signature-keyid", lambda b: _envelope(b)["signatures"][0].update(keyid="me")),
    "signature not base64": ("bundle-shape", lambda b: _envelope(b)["signatures"][0].update(sig="*")),
    "payload not text": ("bundle-shape", lambda b: _envelope(b).update(payload=3)),
    "payload with loose base64": ("bundle-shape", lambda b: _envelope(b).update(payload=_envelope(b)["payload"] + "\n")),
    "another payload type": ("payload-type", lambda b: _envelope(b).update(payloadType="application/json")),
    "another bundle version": ("bundle-version", lambda b: b.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1")),
    "the key inside": ("bundle-version", lambda b: _material(b).update(publicKey={"rawBytes": "AAAA"})),
    "no hint": ("bundle-shape", lambda b: _material(b)["publicKey"].clear()),
    "a hint that is no text": ("bundle-shape", lambda b: _material(b)["publicKey"].update(hint=7)),
    "a certificate": ("signing-method", lambda b: _material(b).update(certificate={"rawBytes": "AAAA"})),
    "a log entry": ("signing-method", lambda b: _material(b).update(tlogEntries=[{}])),
    "a junk timestamp": ("bundle-shape", lambda b: _material(b).update(timestampVerificationData={"rfc3161Timestamps": []})),
    "an unknown field": ("bundle-shape", lambda b: b.update(note="")),
    "a missing field": ("bundle-shape", lambda b: b.pop("dsseEnvelope")),
    "another hint": ("signature-hint", lambda b: _material(b)["publicKey"].update(hint="0" * 64)),
    "another signature": ("signature-invalid", lambda b: _envelope(b)["signatures"][0].update(sig="MEUCIQ==")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_envelope_is_refused(release: Path, refused: Refuse, name: str) -> None:
    code, edit = HOSTILE[name]
    path = release / "model.sig"
    bundle = json.loads(path.read_text())
    edit(bundle)
    path.write_text(json.dumps(bundle))
    error = refused(release)
    assert codes(error) == {("model.sig", code)}
    assert isinstance(error, BadSignatureError if code.startswith("signature-i") or code == "signature-hint" else UnsafeReleaseError)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff", b"{", b'"x"', b"[" * 100_000])
def test_what_is_no_envelope_is_refused(release: Path, refused: Refuse, data: bytes) -> None:
    (release / "model.sig").write_bytes(data)
    error = refused(release)
    assert isinstance(error, UnsafeReleaseError)
    assert {finding.file for finding in error.findings} == {"model.sig"}


def test_a_duplicate_key_in_the_envelope_is_refused(release: Path, refused: Refuse) -> None:
    path = release / "model.sig"
    path.write_bytes(path.read_bytes().replace(b"{", b'{"dsseEnvelope":{},', 1))
    assert codes(refused(release)) == {("model.sig", "json-duplicate-key")}


def test_an_endless_signature_file_is_not_read_to_its_end(release: Path, refused: Refuse) -> None:
    with (release / "model.sig").open("wb") as stream:
        stream.truncate(1 << 40)
    assert codes(refused(release)) == {("model.sig", "too-large")}


def test_the_signed_bytes_are_those_of_the_dsse_protocol() -> None:
    """DSSE's own example, with the payload type of in-toto."""
    assert dsse.pae(b"hello world") == b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"


def test_a_bundle_survives_writing_and_reading(release: Path) -> None:
    data = (release / "model.sig").read_bytes()
    bundle = dsse.loads(data, "model.sig")
    assert dsse.dumps(bundle) + b"\n" == data
    assert bundle.payload == base64.b64decode(json.loads(data)["dsseEnvelope"]["payload"])
