"""Whom a store trusts, for what, and when: each reason for a refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from signed_release import CLAIMS, codes
from trust_example import DAY, GONE, NOW, check, refusal

from safeflux_signing import dsse, keys, manifest
from safeflux_signing.errors import RevokedError, SigningError, UntrustedKeyError
from safeflux_signing.keys import PrivateKey
from safeflux_signing.sign import sign
from safeflux_signing.trust import TrustedKey, TrustStore
from safeflux_signing.verify import verify

SIGNATURE = "model.sig"


def test_a_trusted_key_is_named_with_its_publisher(release: Path, entry: TrustedKey) -> None:
    verified = check(release, replace(entry, models=("acme-*", "demo-*"), not_before=NOW, not_after=NOW))
    assert (verified.publisher, verified.key_id, verified.cosigners) == ("Acme", entry.key_id, ())


@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        ({"revoked": GONE}, RevokedError, "key-revoked"),
        ({"not_after": NOW - timedelta(seconds=1)}, RevokedError, "key-expired"),
        ({"not_before": NOW + timedelta(seconds=1)}, RevokedError, "key-not-yet-valid"),
        ({"models": ("acme-*", "Demo-*", "emo-*", "demo-1", "[!d]emo*")}, UntrustedKeyError, "key-namespace"),
        ({"role": "auditor"}, UntrustedKeyError, "key-role"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_reason_not_to_trust_a_signature(
    release: Path, entry: TrustedKey, change: dict[str, object], error: type[SigningError], code: str
) -> None:
    check(release, entry)
    caught = refusal(lambda: check(release, replace(entry, **change)))  # type: ignore[arg-type]
    assert isinstance(caught, error)
    assert codes(caught) == {(SIGNATURE, code)}
    assert caught.exit_code == (13 if error is RevokedError else 12)


def test_a_claim_is_held_against_what_its_signer_is_trusted_with(release: Path, entry: TrustedKey, other: PrivateKey) -> None:
    audited = "https://example.org/independent-audit/v1"
    digests = check(release, entry).digests
    with (release / "claims.jsonl").open("ab") as stream:
        stream.write(dsse.dumps(dsse.seal(manifest.statement("release", digests, audited, {}), other)) + b"\n")
    auditor = TrustedKey(other.public_key(), "Auditors", "auditor", predicates=("https://example.org/*",))
    claims = check(release, entry, auditor).claims
    assert [(claim.predicate_type, claim.key_id) for claim in claims[len(CLAIMS) :]] == [(audited, auditor.key_id)]
    refused = {
        "claim-not-allowed": replace(auditor, predicates=("https://example.org/audit/*", "urn:*")),
        "key-namespace": replace(auditor, models=("acme-*",)),
        "key-revoked": replace(auditor, revoked=GONE),
        "key-expired": replace(auditor, not_after=NOW - DAY),
    }
    for code, changed in refused.items():
        assert codes(refusal(lambda changed=changed: check(release, entry, changed))) == {("claims.jsonl", code)}  # type: ignore[misc]
    own = refusal(lambda: check(release, replace(entry, predicates=("https://slsa.dev/*",)), auditor))
    assert isinstance(own, UntrustedKeyError)
    assert [finding.code for finding in own.findings] == ["claim-not-allowed"] * 2


def test_a_revoked_release_is_refused_under_a_good_key(release: Path, entry: TrustedKey) -> None:
    gone = (("demo-0.9", GONE), ("demo-1.0", GONE))
    caught = refusal(lambda: check(release, entry, revoked_releases=gone))
    assert isinstance(caught, RevokedError)
    assert codes(caught) == {(SIGNATURE, "release-revoked")}
    assert "stolen" in str(caught)
    check(release, entry, revoked_releases=gone[:1])


def test_nothing_trusted_is_no_key(release: Path) -> None:
    for trust in (TrustStore(), []):
        caught = refusal(lambda trust=trust: verify(release, trust))  # type: ignore[misc]
        assert (codes(caught), caught.exit_code) == ({(SIGNATURE, "no-key")}, 12)


def test_a_release_without_an_id_fits_no_glob_but_that_for_all(release: Path, resign: Callable[..., None], entry: TrustedKey) -> None:
    resign(release, lambda statement: statement["subject"][0].pop("annotations"))
    (release / "claims.jsonl").unlink()
    assert check(release, entry).release is None
    assert codes(refusal(lambda: check(release, replace(entry, models=("?*", "demo-*"))))) == {(SIGNATURE, "key-namespace")}


def test_a_key_shipped_in_the_release_is_not_trusted(bare: Path, key: PrivateKey, other: PrivateKey) -> None:
    (bare / "publisher.pub").write_bytes(keys.public_pem(key.public_key()))
    sign(bare, key, release_id="demo-1.0", sequence=1)
    assert codes(refusal(lambda: verify(bare, [other.public_key()]))) == {(SIGNATURE, "key-unknown")}
