"""Signed without a key that is kept: offline, against a trusted root in a file, and only by whom the trust file names."""

from __future__ import annotations

import base64
import json
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from signed_release import CLAIMS, FILES, MOMENT, codes
from sigstore_fakes import ISSUER, SIGNED, SIGNER, Sigstore

from safeflux_signing import dsse, manifest, strictjson, trustfile
from safeflux_signing.errors import InputError, SigningError
from safeflux_signing.keys import PrivateKey, key_id
from safeflux_signing.sign import add_claim, cosign, sign
from safeflux_signing.trust import Revocation, Threshold, TrustedIdentity, TrustedKey, TrustStore
from safeflux_signing.verify import verify

pytest.importorskip("sigstore", reason="sigstore is not installed: pip install 'safeflux[sigstore]'")

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ACME = TrustedIdentity(SIGNER, ISSUER, "Acme")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def sigstore() -> Sigstore:
    return Sigstore()


@pytest.fixture
def store(tmp_path: Path, sigstore: Sigstore) -> TrustStore:
    sigstore.write_root(tmp_path / "trusted_root.json")
    return TrustStore(identities=(ACME,), sigstore_root="trusted_root.json", home=tmp_path)


@pytest.fixture
def signed(bare: Path, key: PrivateKey, sigstore: Sigstore) -> Callable[..., Path]:
    """The release signed by ``sigstore``, with the same statement as another tool would sign: one that says nothing of a release."""
    sign(bare, key, release_id="x", sequence=1)
    statement = json.loads(dsse.loads((bare / "model.sig").read_bytes(), "x").payload)
    del statement["subject"][0]["annotations"]
    payload = strictjson.dumps(statement)

    def make(**options: Any) -> Path:
        (bare / "model.sig").write_bytes(sigstore.sign(payload, **options))
        return bare

    return make


def refused(release: Path, store: TrustStore, now: datetime = NOW) -> set[tuple[str, str]]:
    with pytest.raises(SigningError) as caught:
        verify(release, store, now=now)
    return codes(caught.value)


def test_a_signature_of_a_trusted_identity_verifies_long_after_its_certificate_ran_out(
    signed: Callable[..., Path], store: TrustStore
) -> None:
    verified = verify(signed(), store, now=NOW)
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
def test_each_fault_has_its_own_reason(signed: Callable[..., Path], store: TrustStore, options: dict[str, Any], code: str) -> None:
    [(file, found)] = refused(signed(**options), store)
    assert file == "model.sig"
    assert found in code.split("|")


def test_another_authority_or_log_than_the_trusted_ones(signed: Callable[..., Path], store: TrustStore, sigstore: Sigstore) -> None:
    release = signed()
    for other, code in ((replace(sigstore, authority=Sigstore().authority), "certificate-untrusted"), (Sigstore(log=sigstore.log), None)):
        other.write_root(store.home / "trusted_root.json")
        [(_, found)] = refused(release, store)
        assert found == (code or "certificate-untrusted")
    for other in (replace(sigstore, log=Sigstore().log), replace(sigstore, witness=Sigstore().witness)):
        other.root = sigstore.root
        other.write_root(store.home / "trusted_root.json")
        assert refused(release, store) == {("model.sig", "log-invalid")}


def test_a_changed_byte_anywhere_in_the_certificate_is_refused(signed: Callable[..., Path], store: TrustStore) -> None:
    release = signed()
    bundle = json.loads((release / "model.sig").read_bytes())
    good = base64.b64decode(material(bundle)["certificate"]["rawBytes"])
    for place in range(0, len(good), 29):
        changed = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
        material(bundle)["certificate"]["rawBytes"] = base64.b64encode(changed).decode()
        (release / "model.sig").write_text(json.dumps(bundle))
        assert refused(release, store)


def test_files_are_held_against_it_as_against_any_signature(signed: Callable[..., Path], store: TrustStore) -> None:
    release = signed()
    (release / "a-b").write_text("changed")
    (release / ".gitignore").write_text("")
    assert refused(release, store) == {("a-b", "file-changed"), (".gitignore", "file-added")}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"role": "auditor"}, "key-role"),
        ({"models": ("acme-*",)}, "key-namespace"),
        ({"not_after": NOW - timedelta(1)}, "key-expired"),
        ({"not_before": NOW + timedelta(1)}, "key-not-yet-valid"),
        ({"revoked": Revocation("left", MOMENT)}, "key-revoked"),
    ],
)
def test_what_an_identity_may_vouch_for_is_limited_as_for_a_key(
    signed: Callable[..., Path], store: TrustStore, changes: dict[str, Any], code: str
) -> None:
    assert refused(signed(), replace(store, identities=(replace(ACME, **changes),))) == {("model.sig", code)}


def test_it_counts_once_towards_a_threshold(signed: Callable[..., Path], store: TrustStore) -> None:
    assert refused(signed(), replace(store, thresholds=(Threshold(2),))) == {("model.sig", "signatures-too-few")}
    verify(signed(), replace(store, thresholds=(Threshold(1),)), now=NOW)


def test_without_a_trusted_identity_a_certificate_is_refused_by_name(signed: Callable[..., Path], key: PrivateKey) -> None:
    assert refused(signed(), TrustStore((TrustedKey(key.public_key(), "Acme"),))) == {("model.sig", "signing-method")}


def test_keys_go_on_to_verify_beside_identities(release: Path, store: TrustStore, key: PrivateKey, other: PrivateKey) -> None:
    both = replace(store, entries=(TrustedKey(key.public_key(), "Acme"),))
    assert verify(release, both, now=NOW).identity is None
    assert refused(release, store) == {("model.sig", "key-unknown")}


def test_a_claim_or_cosignature_with_a_certificate_is_refused(
    release: Path, store: TrustStore, key: PrivateKey, sigstore: Sigstore
) -> None:
    both = replace(store, entries=(TrustedKey(key.public_key(), "Acme"),))
    payload = dsse.loads((release / "model.sig").read_bytes(), "x").payload
    (release / "signatures.jsonl").write_bytes(sigstore.sign(payload) + b"\n")
    assert refused(release, both) == {("signatures.jsonl", "signing-method")}


def test_the_key_of_a_certificate_signs_nothing_else(
    signed: Callable[..., Path], store: TrustStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody keeps it, but if somebody had, it would be good for the ten minutes of its certificate only."""
    kept = ec.generate_private_key(ec.SECP256R1())
    monkeypatch.setattr("sigstore_fakes._new", lambda: kept)
    release = signed()
    verified = verify(release, store, now=NOW)
    assert verified.key_id == key_id(kept.public_key())
    claim = manifest.statement("x", verified.digests, "urn:x", {})
    (release / "claims.jsonl").write_bytes(dsse.dumps(dsse.seal(claim, kept)) + b"\n")
    assert refused(release, store) == {("claims.jsonl", "key-unknown")}


def test_the_trust_file_holds_identities_and_asks_for_both_names(store: TrustStore, signed: Callable[..., Path], key: PrivateKey) -> None:
    full = replace(
        store, entries=(TrustedKey(key.public_key(), "Acme"),), identities=(replace(ACME, models=("a-*",), not_after=NOW), ACME_2)
    )
    data = trustfile.dumps(full)
    assert replace(trustfile.loads(data, "f"), home=store.home) == replace(full, identities=tuple(sorted(full.identities, key=str)))
    path = store.home / "trust.toml"
    path.write_bytes(trustfile.dumps(store))
    assert verify(signed(), trustfile.read(path), now=NOW).identity == ACME
    text = path.read_text()
    for wrong in (
        text.replace(f'issuer = "{ISSUER}"\n', ""),
        text.replace(f'identity = "{SIGNER}"\n', ""),
        text.replace('sigstore_root = "trusted_root.json"\n', ""),
        text + text[text.index("[[identity]]") :],
        text.replace(f'"{ISSUER}"', '""'),
    ):
        assert wrong != text
        with pytest.raises(InputError):
            trustfile.loads(wrong.encode(), "f")


ACME_2 = replace(ACME, identity="https://code.example/acme/.github/workflows/release.yml@refs/heads/main", issuer="https://token.example")


@pytest.mark.parametrize(
    "root", [None, b"", b"{}", b"[" * 10**5, b'{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}']
)
def test_a_trusted_root_that_is_none_is_the_users_own_fault(signed: Callable[..., Path], store: TrustStore, root: bytes | None) -> None:
    path = store.home / "trusted_root.json"
    path.unlink() if root is None else path.write_bytes(root)
    with pytest.raises(InputError) as caught:
        verify(signed(), store, now=NOW)
    assert {finding.code for finding in caught.value.findings} == {"trust-unreadable" if root is None else "trust-invalid"}


def test_without_the_package_it_says_what_to_install(
    signed: Callable[..., Path], store: TrustStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [*(name for name in sys.modules if name.startswith("sigstore.")), "sigstore", "sigstore.errors"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError) as caught:
        verify(signed(), store, now=NOW)
    assert "safeflux[sigstore]" in caught.value.findings[0].remedy


def test_others_cosign_and_claim_beside_it_only_with_keys_of_their_own(signed: Callable[..., Path], key: PrivateKey) -> None:
    """Both verify first, under bare keys, and so refuse what they cannot check."""
    for act in (
        lambda release: cosign(release, key, [key.public_key()]),
        lambda release: add_claim(release, key, [key.public_key()], CLAIMS[2]),
    ):
        with pytest.raises(SigningError, match="signing-method"):
            act(signed())
