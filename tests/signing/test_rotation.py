"""A key hands over to its successor; nobody else can, and nothing but the statement that was signed does it."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from signed_release import MOMENT, codes
from trust_example import refusal

from safeflux_signing import dsse, keys, manifest, trustchanges
from safeflux_signing.errors import InputError, RevokedError, SigningError, UnsafeReleaseError, UntrustedKeyError
from safeflux_signing.signers import KeySigner
from safeflux_signing.trust import Revocation, TrustedKey, TrustStore

FEW = settings(max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
OLD, SECOND, NEW, STRANGER = (ec.derive_private_key(number, ec.SECP256R1()) for number in (11, 12, 13, 14))
ENTRY = TrustedKey(OLD.public_key(), "Acme", models=("acme-*",), not_after=MOMENT + timedelta(days=9))
STORE = TrustStore((ENTRY, TrustedKey(SECOND.public_key(), "Auditors", "auditor")), (), (), "seen.json")
STATEMENT = trustchanges.rotation([OLD], NEW.public_key())
WHY = Revocation("stolen", MOMENT)


def rotated(store: TrustStore = STORE, statement: bytes = STATEMENT) -> TrustStore:
    return trustchanges.rotate(store, statement, MOMENT, "rotation")[0]


def signed(
    predicate: object, *signers: ec.EllipticCurvePrivateKey, kind: str = trustchanges.ROTATION, about: keys.PublicKey | None = None
) -> bytes:
    """A statement like those of rotation, with whatever in it."""
    payload = manifest.statement("a key", {"sha256": keys.key_id(about or NEW.public_key())}, kind, predicate)
    return b"".join(dsse.dumps(dsse.seal(payload, signer)) + b"\n" for signer in signers)


def _predicate(*replaced: ec.EllipticCurvePrivateKey, public: object = None) -> dict[str, object]:
    spki = base64.b64encode(keys.public_der(NEW.public_key())).decode()
    return {"replaces": sorted(keys.key_id(key.public_key()) for key in replaced), "public": spki if public is None else public}


def test_the_new_key_has_what_the_old_one_had_and_the_old_one_nothing() -> None:
    store, heir = trustchanges.rotate(STORE, STATEMENT, MOMENT, "rotation")
    assert heir == replace(ENTRY, key=NEW.public_key())
    assert store.entry(heir.key_id) == heir
    old = store.entry(ENTRY.key_id)
    assert old is not None
    assert old == replace(ENTRY, revoked=Revocation(f"replaced by key {heir.key_id}", MOMENT))
    assert store.entries[1] == STORE.entries[1]
    assert store.remember == "seen.json"
    assert trustchanges.rotation([KeySigner(OLD)], NEW.public_key()) == STATEMENT


def test_a_key_that_is_not_trusted_now_names_no_heir() -> None:
    def of(entry: TrustedKey) -> SigningError:
        return refusal(lambda: rotated(TrustStore((entry,))))

    assert codes(refusal(lambda: rotated(TrustStore(STORE.entries[1:])))) == {("rotation", "key-unknown")}
    assert codes(refusal(lambda: rotated(TrustStore()))) == {("rotation", "key-unknown")}
    assert isinstance(of(replace(ENTRY, revoked=WHY)), RevokedError)
    assert codes(of(replace(ENTRY, revoked=WHY))) == {("rotation", "key-revoked")}
    assert codes(of(replace(ENTRY, not_after=MOMENT - timedelta(1)))) == {("rotation", "key-expired")}
    assert codes(of(replace(ENTRY, not_before=MOMENT + timedelta(1)))) == {("rotation", "key-not-yet-valid")}


def test_an_old_statement_does_nothing_a_second_time_and_revives_no_key() -> None:
    once = rotated()
    assert codes(refusal(lambda: rotated(once))) == {("rotation", "key-revoked")}
    assert codes(refusal(lambda: rotated(TrustStore((ENTRY, TrustedKey(NEW.public_key(), "Acme", revoked=WHY)))))) == {
        ("the trust file", "trust-repeated")
    }
    back = trustchanges.rotation([NEW], OLD.public_key())
    assert codes(refusal(lambda: rotated(once, back))) == {("the trust file", "trust-repeated")}


def test_several_keys_hand_over_together_or_not_at_all() -> None:
    twin = replace(ENTRY, key=SECOND.public_key())
    both = trustchanges.rotation([OLD, SECOND], NEW.public_key())
    store = rotated(TrustStore((ENTRY, twin)), both)
    assert [(entry.key_id == keys.key_id(NEW.public_key()), entry.revoked is None) for entry in store.entries] == [
        (False, False),
        (False, False),
        (True, True),
    ]
    first, second = both.splitlines(keepends=True)
    assert rotated(TrustStore((ENTRY, twin)), second + first) == store
    for part in (first, second, first + first, first + second + second):
        assert codes(refusal(lambda part=part: rotated(TrustStore((ENTRY, twin)), part))) == {("rotation", "rotation-shape")}  # type: ignore[misc]
    assert codes(refusal(lambda: rotated(TrustStore((ENTRY, replace(twin, role="auditor"))), both))) == {("rotation", "rotation-shape")}
    assert codes(refusal(lambda: rotated(TrustStore((ENTRY, replace(twin, revoked=WHY))), both))) == {("rotation", "key-revoked")}
    assert codes(refusal(lambda: rotated(TrustStore((ENTRY,)), both))) == {("rotation", "key-unknown")}


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        (signed(_predicate(OLD), SECOND), "rotation-shape"),
        (signed(_predicate(OLD, SECOND), OLD), "rotation-shape"),
        (signed(_predicate(OLD), OLD, SECOND), "rotation-shape"),
        (signed(_predicate(), OLD), "rotation-shape"),
        (signed(_predicate(OLD), STRANGER), "key-unknown"),
        (signed(_predicate(OLD), OLD, kind="urn:safeflux:key-rotation:v2"), "rotation-shape"),
        (signed(_predicate(OLD), OLD, about=STRANGER.public_key()), "rotation-shape"),
        (signed(_predicate(OLD, public=keys.public_pem(NEW.public_key()).decode()), OLD), "rotation-shape"),
        (signed(_predicate(OLD, public="AAAA"), OLD), "key-unreadable"),
        (signed(_predicate(OLD, public=7), OLD), "rotation-shape"),
        (signed({**_predicate(OLD), "replaces": "all"}, OLD), "rotation-shape"),
        (signed({**_predicate(OLD), "replaces": [1]}, OLD), "rotation-shape"),
        (signed({**_predicate(OLD), "note": ""}, OLD), "rotation-shape"),
        (signed([], OLD), "rotation-shape"),
        (signed(_predicate(OLD), OLD) + signed(_predicate(OLD, SECOND), SECOND), "rotation-shape"),
        (STATEMENT[:-1], "json-not-canonical"),
        (b"", "json-not-canonical"),
        (b"\n", "json-invalid"),
        (STATEMENT.replace(b":", b": ", 1), "json-not-canonical"),
    ],
    ids=range(19),
)
def test_what_is_no_rotation_statement_by_the_keys_it_replaces_is_refused(statement: bytes, code: str) -> None:
    error = refusal(lambda: rotated(STORE, statement))
    assert {finding.code for finding in error.findings} == {code}
    assert isinstance(error, UnsafeReleaseError | UntrustedKeyError | InputError)


def test_the_other_form_of_the_signature_is_refused() -> None:
    """(r, order - s) verifies as well; it is not what was written."""
    bundle = dsse.loads(STATEMENT[:-1], "x")
    r, s = decode_dss_signature(bundle.signature)
    mirrored = encode_dss_signature(r, ec.SECP256R1().group_order - s)
    assert keys.verifies(OLD.public_key(), mirrored, dsse.pae(bundle.payload))
    error = refusal(lambda: rotated(STORE, dsse.dumps(replace(bundle, signature=mirrored)) + b"\n"))
    assert codes(error) == {("rotation", "json-not-canonical")}


@FEW
@given(st.data())
def test_no_changed_statement_changes_anything(data: st.DataObject) -> None:
    mutant = bytearray(STATEMENT)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(mutant) - 1))
        mutant[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8) | st.just(bytes(mutant[:at])))
    if bytes(mutant) != STATEMENT:
        refusal(lambda: rotated(STORE, bytes(mutant)))


@FEW
@given(st.binary(max_size=200))
def test_no_bytes_at_all_raise_anything_else(data: bytes) -> None:
    refusal(lambda: rotated(STORE, data))


def test_the_small_changes() -> None:
    key_id = ENTRY.key_id
    assert codes(refusal(lambda: trustchanges.add(STORE, ENTRY))) == {("the trust file", "trust-repeated")}
    assert codes(refusal(lambda: trustchanges.drop(TrustStore(), key_id))) == {("the trust file", "trust-absent")}
    assert trustchanges.add(trustchanges.drop(STORE, key_id), ENTRY).entries == (*STORE.entries[1:], ENTRY)
    gone = trustchanges.revoke_key(STORE, key_id, WHY)
    assert gone.entry(key_id) == replace(ENTRY, revoked=WHY)
    assert codes(refusal(lambda: trustchanges.revoke_key(gone, key_id, WHY))) == {("the trust file", "trust-repeated")}
    assert codes(refusal(lambda: trustchanges.revoke_key(TrustStore(), key_id, WHY))) == {("the trust file", "trust-absent")}
    assert trustchanges.revoke_release(STORE, "acme-1", WHY).revoked_releases == (("acme-1", WHY),)
    twice = refusal(lambda: trustchanges.revoke_release(trustchanges.revoke_release(STORE, "acme-1", WHY), "acme-1", WHY))
    assert codes(twice) == {("the trust file", "trust-repeated")}
    for old, new in (([], NEW), ([OLD, OLD], NEW), ([OLD, NEW], NEW)):
        assert codes(refusal(lambda old=old, new=new: trustchanges.rotation(old, new.public_key()))) == {("the rotation", "trust-repeated")}  # type: ignore[misc]
