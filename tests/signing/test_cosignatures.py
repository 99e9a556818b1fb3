"""Several signatures on one manifest: counted by different keys, over the same bytes, and none that nobody vouches for."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from signed_release import CLAIMS, codes
from trust_example import DAY, GONE, NOW, check, refusal

from safeflux_signing import dsse, keys
from safeflux_signing.errors import BadSignatureError, SigningError, ThresholdError, UntrustedKeyError
from safeflux_signing.keys import PrivateKey, key_id
from safeflux_signing.sign import cosign, sign
from safeflux_signing.trust import Threshold, TrustedKey, TrustStore, bare
from safeflux_signing.verify import verify

SIGNATURE = "model.sig"


@pytest.fixture(scope="module")
def third() -> PrivateKey:
    return keys.KINDS["ed25519"].make()


def test_a_threshold_counts_different_keys_with_the_roles_asked_for(
    release: Path, entry: TrustedKey, other: PrivateKey, third: PrivateKey
) -> None:
    second, auditor = TrustedKey(other.public_key(), "Acme"), TrustedKey(third.public_key(), "Auditors", "auditor")
    two = (Threshold(2),)
    alone = refusal(lambda: check(release, entry, second, auditor, thresholds=two))
    assert isinstance(alone, ThresholdError)
    assert (codes(alone), alone.exit_code) == ({(SIGNATURE, "signatures-too-few")}, 14)
    cosign(release, third, [entry.key])
    by_role = refusal(lambda: check(release, entry, second, auditor, thresholds=two))
    assert codes(by_role) == {(SIGNATURE, "signatures-too-few")}
    assert (by_role.findings[0].expected, by_role.findings[0].actual) == ("2 different keys", "1")
    check(release, entry, auditor, thresholds=(Threshold(2, ("publisher", "auditor")), Threshold(1, ("auditor",))))
    cosign(release, other, [entry.key, auditor.key])
    everyone = check(release, entry, second, auditor, thresholds=two)
    assert everyone.cosigners == (auditor.key_id, second.key_id)
    for change in ({"revoked": GONE}, {"not_after": NOW - DAY}, {"models": ("acme-*",)}):
        less = refusal(lambda change=change: check(release, entry, replace(second, **change), auditor, thresholds=two))  # type: ignore[misc]
        assert codes(less) == {(SIGNATURE, "signatures-too-few")}
    check(release, entry, replace(second, revoked=GONE), auditor)
    check(release, entry, second, auditor, thresholds=(Threshold(9, models=("acme-*",)),))
    assert isinstance(
        refusal(lambda: check(release, entry, second, auditor, thresholds=(*two, Threshold(9, models=("demo-*",))))), ThresholdError
    )


def test_a_release_without_an_id_must_meet_every_threshold(
    bare: Path, entry: TrustedKey, key: PrivateKey, other: PrivateKey, resign: Callable[..., None]
) -> None:
    """Else one key alone would sign, as another tool does, what it may not sign alone by name."""
    sign(bare, key, release_id="demo-1.0", sequence=3)
    resign(bare, lambda statement: statement["subject"][0].pop("annotations"))
    second = TrustedKey(other.public_key(), "Acme")
    for rules in ((Threshold(2, models=("demo-*",)),), (Threshold(1), Threshold(2, models=("?*",)))):
        caught = refusal(lambda rules=rules: check(bare, entry, second, thresholds=rules))  # type: ignore[misc]
        assert (codes(caught), caught.exit_code) == ({(SIGNATURE, "signatures-too-few")}, 14)
    assert check(bare, entry, second, thresholds=(Threshold(1, models=("demo-*",)),)).release is None
    cosign(bare, other, [entry.key])
    check(bare, entry, second, thresholds=(Threshold(2, models=("demo-*",)),))
    alone = refusal(lambda: check(bare, entry, replace(second, models=("demo-*",)), thresholds=(Threshold(2, models=("demo-*",)),)))
    assert codes(alone) == {(SIGNATURE, "signatures-too-few")}


def _aliases(public: keys.PublicKey) -> list[keys.PublicKey]:
    """The same P-256 key as other encodings give it."""
    der = keys.public_der(public)
    point = public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    algorithm, bits = der[2:23], b"\x03\x22\x00" + point
    compressed = b"\x30" + bytes([len(algorithm) + len(bits)]) + algorithm + bits
    spaced = b"a comment\n" + keys.public_pem(public).replace(b"\n", b"\r\n")
    return [keys.read_public(data, "x") for data in (der, compressed, spaced)]


def test_one_key_under_several_names_counts_once(release: Path, entry: TrustedKey, key: PrivateKey) -> None:
    aliases = _aliases(entry.key)
    assert {key_id(alias) for alias in aliases} == {entry.key_id}
    for alias in aliases:
        both = refusal(lambda alias=alias: TrustStore((entry, replace(entry, key=alias, publisher="Another"))))  # type: ignore[misc]
        assert codes(both) == {("the trust store", "trust-invalid")}
    assert len(bare(aliases).entries) == 1
    again = refusal(lambda: cosign(release, key, aliases))
    assert (codes(again), again.exit_code) == ({("signatures.jsonl", "cosignature-repeated")}, 11)
    (release / "signatures.jsonl").write_bytes((release / SIGNATURE).read_bytes())
    assert codes(refusal(lambda: check(release, entry))) == {("signatures.jsonl", "cosignature-repeated")}
    both = refusal(lambda: check(release, entry, thresholds=(Threshold(2),)))
    assert codes(both) == {(SIGNATURE, "signatures-too-few"), ("signatures.jsonl", "cosignature-repeated")}


def test_a_randomised_signer_cannot_sign_twice(release: Path, entry: TrustedKey) -> None:
    lattice = keys.KINDS["ml-dsa-65"].make()
    cosign(release, lattice, [entry.key])
    line = (release / "signatures.jsonl").read_bytes()
    payload = dsse.loads(line, "x").payload
    (release / "signatures.jsonl").write_bytes(line + dsse.dumps(dsse.seal(payload, lattice)) + b"\n")
    assert codes(refusal(lambda: verify(release, [entry.key, lattice.public_key()]))) == {("signatures.jsonl", "cosignature-repeated")}


def test_co_signatures_are_over_the_same_bytes_by_keys_that_were_given(
    release: Path, bare: Path, entry: TrustedKey, key: PrivateKey, other: PrivateKey
) -> None:
    both, path = [entry.key, other.public_key()], release / "signatures.jsonl"
    cosign(release, other, [entry.key])
    good = path.read_bytes()
    unknown = refusal(lambda: verify(release, [entry.key]))
    assert isinstance(unknown, UntrustedKeyError)
    assert codes(unknown) == {("signatures.jsonl", "key-unknown")}
    claim = (release / "claims.jsonl").read_bytes().splitlines()[0]
    about_claim = dsse.dumps(dsse.seal(dsse.loads(claim, "x").payload, other)) + b"\n"
    for data, code in (
        (about_claim, "cosignature-payload"),
        (good[:-1], "json-not-canonical"),
        (b"", "json-not-canonical"),
        (good + b"\n", "json-invalid"),
        (good.replace(b":", b": ", 1), "json-not-canonical"),
    ):
        path.write_bytes(data)
        assert ("signatures.jsonl", code) in codes(refusal(lambda: verify(release, both))), data[:50]
    path.write_bytes(good)
    assert verify(release, both).cosigners == (key_id(other.public_key()),)
    (release / "a-b").write_text("changed")
    with pytest.raises(SigningError, match="file-changed"):
        cosign(release, keys.KINDS["p256"].make(), both)
    sign(release, key, release_id="demo-1.1", sequence=4)
    assert not path.exists()


def test_no_byte_of_a_co_signature_can_differ(release: Path, entry: TrustedKey, other: PrivateKey) -> None:
    cosign(release, other, [entry.key])
    path, rng = release / "signatures.jsonl", random.Random(7)
    good = path.read_bytes()
    for place in range(len(good)):
        if place % 97 and good[place - 1 : place + 2].isalnum():
            continue  # of the long base64 text one byte in a hundred, for time
        path.write_bytes(good[:place] + bytes([good[place] ^ 1 << rng.randrange(8)]) + good[place + 1 :])
        caught = refusal(lambda: verify(release, [entry.key, other.public_key()]))
        assert {finding.file for finding in caught.findings} == {"signatures.jsonl"}, place
    path.write_bytes(good)
    verify(release, [entry.key, other.public_key()])


def test_a_co_signature_is_a_bundle_that_other_tools_read(release: Path, entry: TrustedKey, other: PrivateKey) -> None:
    cosign(release, other, [entry.key])
    (release / SIGNATURE).write_bytes((release / "signatures.jsonl").read_bytes())
    (release / "signatures.jsonl").unlink()
    assert verify(release, [entry.key, other.public_key()]).key_id == key_id(other.public_key())


def test_a_changed_co_signature_is_a_bad_one(release: Path, entry: TrustedKey, other: PrivateKey) -> None:
    cosign(release, other, [entry.key])
    bundle = dsse.loads((release / "signatures.jsonl").read_bytes(), "x")
    for payload in (bundle.payload + b" ", bundle.payload.replace(b"demo-1.0", b"demo-1.1")):
        (release / "signatures.jsonl").write_bytes(dsse.dumps(replace(bundle, payload=payload)) + b"\n")
        caught = refusal(lambda: verify(release, [entry.key, other.public_key()]))
        assert isinstance(caught, BadSignatureError)
        assert codes(caught) == {("signatures.jsonl", "signature-invalid")}


@pytest.mark.parametrize("kind", keys.KINDS)
def test_every_kind_of_key_signs_claims_and_releases(bare: Path, kind: str) -> None:
    made = keys.KINDS[kind].make()
    sign(bare, made, release_id="demo-1.0", sequence=0, claims=CLAIMS, name="demo")
    verified = check(bare, TrustedKey(made.public_key(), "Acme"))
    assert {claim.key_id for claim in verified.claims} == {key_id(made.public_key())} == {verified.key_id}
    assert verified.release is not None
    assert verified.release.name == "demo"


def test_keys_of_different_kinds_count_together(release: Path, entry: TrustedKey) -> None:
    """An elliptic-curve and a lattice signature side by side: whoever breaks one of the two kinds still cannot sign a release."""
    lattice = keys.KINDS["ml-dsa-65"].make()
    cosign(release, lattice, [entry.key])
    assert check(release, entry, TrustedKey(lattice.public_key(), "Acme"), thresholds=(Threshold(2),)).cosigners
