"""Claims under certificates: by whom the trust file names, about just these files, and bound like everything that is signed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from signed_release import CLAIMS, FILES, MOMENT
from sigstore_fakes import ACME, ISSUER, NOW, SIGNED, Sigstore, refused

from safeflux_signing import dsse, keyless, manifest, strictjson
from safeflux_signing.errors import SigningError
from safeflux_signing.keys import PrivateKey, key_id
from safeflux_signing.sign import add_claim, cosign, sign
from safeflux_signing.signers import AnySigner
from safeflux_signing.trust import Revocation, Threshold, TrustedIdentity, TrustedKey, TrustStore
from safeflux_signing.unverified import look
from safeflux_signing.verify import verify

pytest.importorskip("sigstore", reason="sigstore is not installed: pip install 'safeflux[sigstore]'")

pytestmark = pytest.mark.usefixtures("offline")
KIND = "urn:audit"
LAB = TrustedIdentity("audits@lab.example", "https://login.lab.example", "Lab", "auditor")
FILE = "claims.jsonl"


def line(sigstore: Sigstore, payload: bytes, who: TrustedIdentity = LAB, **options: Any) -> bytes:
    """A claim as ``sigstore`` certifies it, in the one form that claims have."""
    made = sigstore.sign(payload, **{"identity": who.identity, "issuer": who.issuer, **options})
    return strictjson.dumps(json.loads(made)) + b"\n"


def audit(release: Path, **changes: Any) -> bytes:
    """A claim about ``release``, whose subject is then changed."""
    entries = [manifest.Entry(name, digest) for name, digest in sorted(files_of(release).items())]
    digests = manifest.subject_digests(entries)
    subject = {"digest": {"sha256": digests["sha256"]}, "annotations": {"dirHash1": digests["dirHash1"]}, **changes}
    return manifest.statement("release", subject.pop("digest"), KIND, {"found": 0}, **subject)


def files_of(release: Path) -> dict[str, str]:
    said = look(release).manifest
    assert said is not None
    return {entry.name: entry.sha256 for entry in said.entries}


@pytest.fixture
def both(acme: TrustStore, key: PrivateKey) -> TrustStore:
    """A trust store that knows the publisher by its key, and by its name, and an auditor by its name."""
    return replace(acme, entries=(TrustedKey(key.public_key(), "Acme"),), identities=(ACME, LAB))


def add(release: Path, more: bytes) -> None:
    with (release / FILE).open("ab") as file:
        file.write(more)


def test_a_trusted_identity_claims_beside_a_publishers_key(release: Path, both: TrustStore, sigstore: Sigstore) -> None:
    add(release, line(sigstore, audit(release)))
    verified = verify(release, both, now=NOW)
    claim = verified.claims[-1]
    assert (claim.predicate_type, claim.publisher, claim.role, claim.identity, claim.required) == (KIND, "Lab", "auditor", LAB, False)
    assert claim.logged == SIGNED + timedelta(minutes=1)
    assert (verified.identity, verified.publisher) == (None, "Acme")
    assert {(one.identity, one.logged) for one in verified.claims[:-1]} == {(None, None)}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"identity": "audits@evil.example"}, "identity-unknown"),
        ({"issuer": ISSUER}, "identity-issuer"),
        ({"logged": NOW}, "certificate-expired"),
        ({"edit": lambda bundle: bundle["verificationMaterial"].update(tlogEntries=[])}, "certificate-untimed"),
        ({"witnessed": False}, "log-invalid"),
        ({"edit": lambda bundle: bundle["verificationMaterial"]["tlogEntries"][0].pop("canonicalizedBody")}, "log-invalid"),
    ],
)
def test_a_line_that_is_no_good_is_refused_as_a_signature_is(
    release: Path, both: TrustStore, sigstore: Sigstore, options: dict[str, Any], code: str
) -> None:
    add(release, line(sigstore, audit(release), **options))
    assert refused(release, both) == {(FILE, code)}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"models": ("acme-*",)}, "key-namespace"),
        ({"predicates": ("urn:other",)}, "claim-not-allowed"),
        ({"not_after": NOW - timedelta(1)}, "key-expired"),
        ({"not_before": NOW + timedelta(1)}, "key-not-yet-valid"),
        ({"revoked": Revocation("left", MOMENT)}, "key-revoked"),
    ],
)
def test_what_an_identity_may_claim_is_limited_as_for_a_key(
    release: Path, both: TrustStore, sigstore: Sigstore, changes: dict[str, Any], code: str
) -> None:
    add(release, line(sigstore, audit(release)))
    assert refused(release, replace(both, identities=(ACME, replace(LAB, **changes)))) == {(FILE, code)}


def test_who_names_no_identity_believes_no_certificate(release: Path, both: TrustStore, sigstore: Sigstore) -> None:
    add(release, line(sigstore, audit(release)))
    assert refused(release, TrustStore(both.entries)) == {(FILE, "signing-method")}


def test_a_claim_over_a_key_that_the_trust_file_names_is_refused(release: Path, both: TrustStore, sigstore: Sigstore) -> None:
    kept = ec.generate_private_key(ec.SECP256R1())
    add(release, line(replace(sigstore, kept=kept), audit(release)))
    verify(release, both, now=NOW)
    again = replace(both, entries=(*both.entries, TrustedKey(kept.public_key(), "Lab", "auditor")))
    assert refused(release, again) == {(FILE, "certificate-key")}


def exchanged(release: Path) -> bytes:
    """The claim about two files, each under the other's name: what is bound by their contents is the same."""
    said = files_of(release)
    said["model_index.json"], said["a/x"] = said["a/x"], said["model_index.json"]
    return manifest.subject_digests(manifest.Entry(name, said[name]) for name in sorted(said))["dirHash1"].encode()


@pytest.mark.parametrize(
    "changes",
    [
        lambda release: {"annotations": {}},
        lambda release: {"annotations": {"dirHash1": exchanged(release).decode()}},
        lambda release: {"annotations": "none"},
        lambda release: {"digest": {"sha256": "00" * 32}},
        lambda release: {"digest": {}},
        lambda release: {"digest": {}, "annotations": {"dirHash1": "00" * 32, "sha256": "00" * 32}},
    ],
    ids=["names unbound", "names exchanged", "no annotations", "other files", "no digest", "nothing right"],
)
def test_it_is_about_just_these_files_and_their_names(
    release: Path, both: TrustStore, sigstore: Sigstore, changes: Callable[[Path], dict[str, Any]]
) -> None:
    add(release, line(sigstore, audit(release, **changes(release))))
    assert refused(release, both) == {(FILE, "claim-subject")}


def test_a_key_still_says_it_its_own_way(release: Path, both: TrustStore, key: PrivateKey) -> None:
    add(release, dsse.line(audit(release), key))
    assert refused(release, both) == {(FILE, "claim-subject")}


def test_a_required_one_is_missed_and_a_cut_or_spaced_line_refused(bare: Path, keyless: AnySigner, acme: TrustStore) -> None:
    sign(bare, keyless, release_id="demo-1.0", sequence=1, claims=CLAIMS)
    first, *rest = (bare / FILE).read_bytes().splitlines(keepends=True)
    (bare / FILE).write_bytes(b"".join(rest))
    assert refused(bare, acme) == {(FILE, "claim-missing")}
    (bare / FILE).write_bytes(b"".join([first.replace(b'":"', b'": "', 1), *rest]))
    assert refused(bare, acme) == {(FILE, "json-not-canonical"), (FILE, "claim-missing")}
    (bare / FILE).write_bytes(b"".join([first, first, *rest]))
    assert refused(bare, acme) == {(FILE, "claim-repeated")}
    (bare / FILE).write_bytes(b"".join([first, *rest]))
    verify(bare, acme, now=NOW)


def test_claims_under_certificates_count_for_no_threshold(bare: Path, keyless: AnySigner, both: TrustStore, sigstore: Sigstore) -> None:
    """Whoever has an account has as many keys as there are minutes: only keys that are kept sign beside a publisher."""
    sign(bare, keyless, release_id="demo-1.0", sequence=1, claims=CLAIMS)
    for who in (ACME, LAB):
        add(bare, line(sigstore, audit(bare, annotations=json.loads(audit(bare))["subject"][0]["annotations"] | {"by": who.identity}), who))
    verify(bare, both, now=NOW)
    everybody = replace(both, thresholds=(Threshold(2, ("publisher", "auditor")),))
    assert refused(bare, everybody) == {("model.sig", "signatures-too-few")}
    payload = dsse.payload_of((bare / "model.sig").read_bytes(), "f")
    (bare / "signatures.jsonl").write_bytes(line(sigstore, payload, ACME))
    assert ("signatures.jsonl", "signing-method") in refused(bare, everybody)


def test_others_sign_and_claim_beside_it_once_they_trust_it(bare: Path, keyless: AnySigner, acme: TrustStore, other: PrivateKey) -> None:
    sign(bare, keyless, release_id="demo-1.0", sequence=1, claims=CLAIMS)
    cosign(bare, other, acme)
    everybody = replace(acme, entries=(TrustedKey(other.public_key(), "Lab", "auditor"),))
    add_claim(bare, other, everybody, (KIND, {"found": 0}))
    add_claim(bare, keyless, everybody, (KIND, {"found": 1}))
    verified = verify(bare, replace(everybody, thresholds=(Threshold(2, ("publisher", "auditor")),)), now=NOW)
    assert verified.cosigners == (key_id(other.public_key()),)
    assert [(one.publisher, one.required) for one in verified.claims[-2:]] == [("Lab", False), ("Acme", False)]
    with pytest.raises(SigningError, match="claim-repeated"):
        add_claim(bare, keyless, everybody, (KIND, {"found": 1}))


def test_whoever_looks_is_shown_whom_each_names(bare: Path, keyless: AnySigner) -> None:
    sign(bare, keyless, release_id="demo-1.0", sequence=1, claims=CLAIMS)
    said = look(bare)
    assert not said.troubles
    assert said.signer is not None
    assert {(one.signer.identity, one.signer.issuer, one.required) for one in said.claims} == {(ACME.identity, ACME.issuer, True)}
    digests: Any = said.claims[0].digests
    assert digests == manifest.subject_digests(said.manifest.entries)  # type: ignore[union-attr]
    assert said.manifest.release is not None  # type: ignore[union-attr]
    assert {entry.name for entry in said.manifest.entries} == FILES.keys()  # type: ignore[union-attr]


def test_no_byte_of_what_is_signed_its_signature_or_certificate_can_be_changed(release: Path, both: TrustStore, sigstore: Sigstore) -> None:
    bundle = json.loads(line(sigstore, audit(release)))
    envelope, certificate = bundle["dsseEnvelope"], bundle["verificationMaterial"]["certificate"]
    keyless.signer(strictjson.dumps(bundle), both, "f")
    for holder, name in ((envelope, "payload"), (envelope["signatures"][0], "sig"), (certificate, "rawBytes")):
        good = holder[name]
        data = base64.b64decode(good)
        for place, byte in enumerate(data):
            changed = bytearray(data)
            changed[place] = byte ^ 1 << place % 8
            holder[name] = base64.b64encode(changed).decode()
            with pytest.raises(SigningError):
                keyless.signer(strictjson.dumps(bundle), both, "f")
        holder[name] = good
    keyless.signer(strictjson.dumps(bundle), both, "f")


def test_nor_can_the_signature_be_turned_into_its_twin(release: Path, both: TrustStore, sigstore: Sigstore) -> None:
    """Of ECDSA's two, (r, s) and (r, order - s), the log has seen one."""
    bundle = json.loads(line(sigstore, audit(release)))
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    r, s = decode_dss_signature(base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"]))
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(encode_dss_signature(r, order - s)).decode()
    add(release, strictjson.dumps(bundle) + b"\n")
    assert refused(release, both) == {(FILE, "log-invalid")}


def test_a_manifest_is_no_claim(release: Path, both: TrustStore, sigstore: Sigstore) -> None:
    payload = dsse.payload_of((release / "model.sig").read_bytes(), "f")
    add(release, line(sigstore, payload, ACME))
    assert refused(release, both) == {(FILE, "predicate-type")}
