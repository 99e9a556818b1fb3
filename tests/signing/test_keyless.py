"""Signed without a key that is kept: offline, against a trusted root in a file, and only by whom the trust file names."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from signed_release import FILES, codes
from sigstore_fakes import ACME, ISSUER, NOW, SIGNED, SIGNER, Sigstore, refused

from safeflux_signing import dsse, manifest
from safeflux_signing.errors import UnsafeReleaseError
from safeflux_signing.keys import key_id
from safeflux_signing.trust import Revocation, TrustedKey, TrustStore
from safeflux_signing.verify import verify

pytest.importorskip("sigstore", reason="sigstore is not installed: pip install 'safeflux[sigstore]'")

pytestmark = pytest.mark.usefixtures("offline")


def test_a_signature_of_a_trusted_identity_verifies_long_after_its_certificate_ran_out(
    certified: Callable[..., Path], acme: TrustStore
) -> None:
    verified = verify(certified(), acme, now=NOW)
    assert verified.identity == ACME
    assert (verified.publisher, verified.release) == ("Acme", None)
    assert {entry.name for entry in verified.entries} == FILES.keys()


def material(bundle: dict[str, Any]) -> Any:
    return bundle["verificationMaterial"]


def entry(bundle: dict[str, Any]) -> Any:
    return material(bundle)["tlogEntries"][0]


def flip(text: str) -> str:
    """The same base64 with a bit in the middle of the data changed."""
    data = bytearray(base64.b64decode(text))
    data[len(data) // 2] ^= 1
    return base64.b64encode(data).decode()


def flipped(where: Callable[[dict[str, Any]], Any], name: str) -> Callable[[dict[str, Any]], None]:
    return lambda bundle: where(bundle).update({name: flip(where(bundle)[name])})


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"identity": "release@evil.example"}, "identity-unknown"),
        ({"identity": f"x{SIGNER}"}, "identity-unknown"),
        ({"issuer": "https://accounts.evil.example"}, "identity-issuer"),
        ({"logged": SIGNED + timedelta(hours=1)}, "certificate-expired"),
        ({"logged": SIGNED - timedelta(seconds=1)}, "certificate-expired"),
        ({"edit": lambda b: entry(b).pop("inclusionPromise")}, "certificate-untimed"),
        ({"edit": lambda b: entry(b).update(integratedTime="0")}, "certificate-untimed|certificate-expired"),
        ({"edit": lambda b: material(b).update(tlogEntries=[])}, "certificate-untimed"),
        ({"witnessed": False}, "log-invalid"),
        ({"edit": flipped(lambda b: b["dsseEnvelope"], "payload")}, "signature-invalid"),
        ({"edit": flipped(lambda b: entry(b)["inclusionPromise"], "signedEntryTimestamp")}, "log-invalid"),
        ({"edit": flipped(lambda b: entry(b)["inclusionProof"], "rootHash")}, "log-invalid"),
        ({"edit": flipped(entry, "canonicalizedBody")}, "log-invalid"),
        ({"edit": lambda b: entry(b).update(integratedTime=str(int(SIGNED.timestamp()) + 2))}, "log-invalid"),
        ({"edit": lambda b: entry(b)["inclusionProof"].update(checkpoint={"envelope": "x"})}, "log-invalid"),
        ({"edit": lambda b: material(b).update(more=1)}, "bundle-shape"),
        ({"edit": lambda b: material(b)["certificate"].update(rawBytes="AAAA")}, "bundle-shape"),
        ({"edit": lambda b: b["dsseEnvelope"]["signatures"].append({"sig": "AAAA"})}, "signature-count"),
        ({"edit": lambda b: b.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1")}, "bundle-version"),
    ],
)
def test_each_fault_has_its_own_reason(certified: Callable[..., Path], acme: TrustStore, options: dict[str, Any], code: str) -> None:
    [(file, found)] = refused(certified(**options), acme)
    assert file == "model.sig"
    assert found in code.split("|")


def test_another_authority_or_log_than_the_trusted_ones(certified: Callable[..., Path], acme: TrustStore, sigstore: Sigstore) -> None:
    release = certified()
    for other, code in ((replace(sigstore, authority=Sigstore().authority), "certificate-untrusted"), (Sigstore(log=sigstore.log), None)):
        other.write_root(acme.home / "trusted_root.json")
        [(_, found)] = refused(release, acme)
        assert found == (code or "certificate-untrusted")
    for other in (replace(sigstore, log=Sigstore().log), replace(sigstore, witness=Sigstore().witness)):
        other.root = sigstore.root
        other.write_root(acme.home / "trusted_root.json")
        assert refused(release, acme) == {("model.sig", "log-invalid")}


def test_a_changed_byte_anywhere_in_the_certificate_is_refused(certified: Callable[..., Path], acme: TrustStore) -> None:
    release = certified()
    bundle = json.loads((release / "model.sig").read_bytes())
    good = base64.b64decode(material(bundle)["certificate"]["rawBytes"])
    for place in range(0, len(good), 29):
        changed = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
        material(bundle)["certificate"]["rawBytes"] = base64.b64encode(changed).decode()
        (release / "model.sig").write_text(json.dumps(bundle))
        assert refused(release, acme)


def test_a_certificate_from_a_year_that_there_is_not_is_refused(certified: Callable[..., Path], acme: TrustStore) -> None:
    """Its time is read only when somebody asks; a UTCTime is exchanged for a GeneralizedTime, and three lengths with it."""

    def edit(bundle: dict[str, Any]) -> None:
        der = bytearray(base64.b64decode(material(bundle)["certificate"]["rawBytes"]))
        at = der.index(b"\x17\x0d")
        der[at : at + 15] = b"\x18\x0f00000101000000Z"
        der[at - 1] += 2
        for start in (0, 4):
            der[start + 2 : start + 4] = (int.from_bytes(der[start + 2 : start + 4], "big") + 2).to_bytes(2, "big")
        material(bundle)["certificate"]["rawBytes"] = base64.b64encode(der).decode()

    with pytest.raises(UnsafeReleaseError) as caught:
        verify(certified(edit=edit), acme, now=NOW)
    assert codes(caught.value) == {("model.sig", "bundle-shape")}


def test_a_certificate_of_a_version_that_there_is_not_is_refused(certified: Callable[..., Path], acme: TrustStore) -> None:
    def edit(bundle: dict[str, Any]) -> None:
        der = bytearray(base64.b64decode(material(bundle)["certificate"]["rawBytes"]))
        der[der.index(b"\xa0\x03\x02\x01\x02") + 4] = 14
        material(bundle)["certificate"]["rawBytes"] = base64.b64encode(der).decode()

    with pytest.raises(UnsafeReleaseError) as caught:
        verify(certified(edit=edit), acme, now=NOW)
    assert codes(caught.value) == {("model.sig", "bundle-shape")}


@pytest.mark.parametrize("kind", ["RSA", "secp256k1"])
def test_a_certificate_over_a_key_of_another_kind_is_refused(
    certified: Callable[..., Path], acme: TrustStore, sigstore: Sigstore, kind: str
) -> None:
    """By a reason of the release's, for the user has handed in no key."""
    made: dict[str, Callable[[], Any]] = {
        "RSA": lambda: rsa.generate_private_key(65537, 2048),
        "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    }
    der = sigstore.certify(made[kind](), SIGNER, ISSUER, SIGNED, True).public_bytes(serialization.Encoding.DER)
    release = certified(edit=lambda b: material(b)["certificate"].update(rawBytes=base64.b64encode(der).decode()))
    with pytest.raises(UnsafeReleaseError) as caught:
        verify(release, acme, now=NOW)
    assert codes(caught.value) == {("model.sig", "certificate-key")}


@pytest.mark.parametrize("changes", [{}, {"revoked": Revocation("stolen", SIGNED)}, {"role": "auditor"}])
def test_a_certificate_over_a_key_that_the_trust_file_names_is_refused(
    certified: Callable[..., Path], acme: TrustStore, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """Which of the two would say what it may vouch for? And it must not bring back one that was revoked."""
    kept = ec.generate_private_key(ec.SECP256R1())
    monkeypatch.setattr("sigstore_fakes._new", lambda: kept)
    both = replace(acme, entries=(TrustedKey(kept.public_key(), "Acme", **changes),))
    with pytest.raises(UnsafeReleaseError) as caught:
        verify(certified(), both, now=NOW)
    assert codes(caught.value) == {("model.sig", "certificate-key")}


def test_files_are_held_against_it_as_against_any_signature(certified: Callable[..., Path], acme: TrustStore) -> None:
    release = certified()
    (release / "a-b").write_text("changed")
    (release / ".gitignore").write_text("")
    assert refused(release, acme) == {("a-b", "file-changed"), (".gitignore", "file-added")}


def test_the_key_of_a_certificate_signs_nothing_else(
    certified: Callable[..., Path], acme: TrustStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody keeps it, but if somebody had, it would be good for the ten minutes of its certificate only."""
    kept = ec.generate_private_key(ec.SECP256R1())
    monkeypatch.setattr("sigstore_fakes._new", lambda: kept)
    release = certified()
    verified = verify(release, acme, now=NOW)
    assert verified.key_id == key_id(kept.public_key())
    claim = manifest.statement("x", verified.digests, "urn:x", {})
    (release / "claims.jsonl").write_bytes(dsse.dumps(dsse.seal(claim, kept)) + b"\n")
    assert refused(release, acme) == {("claims.jsonl", "key-unknown")}
