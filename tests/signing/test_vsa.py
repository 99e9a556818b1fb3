"""The summary that a verifier hands on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from signed_release import CLAIMS, MOMENT

from safeflux_signing import claims, dsse, keys, manifest, vsa
from safeflux_signing.keys import PrivateKey
from safeflux_signing.verify import verify


def summary(release: Path, key: PrivateKey, **changes: Any) -> bytes:
    verified = verify(release, [key.public_key()])
    own: dict[str, Any] = {
        "subject": "release", "resource": "urn:x:demo", "verifier": "urn:x:me", "versions": {"x": "1"}, "policy": "urn:x:policy",
        "trusted": [verified.key_id], "required": ["max-age=90d"], "now": MOMENT,
    }  # fmt: skip
    return vsa.statement(verified, **own | changes)


def test_it_is_about_the_same_files_and_names_its_evidence(release: Path, key: PrivateKey) -> None:
    verified = verify(release, [key.public_key()])
    subject, predicate_type, predicate = manifest.read_statement(summary(release, key), "vsa")
    assert subject["digest"] == verified.digests
    assert predicate_type == "https://slsa.dev/verification_summary/v1"
    assert isinstance(predicate, dict)
    assert (predicate["verificationResult"], predicate["timeVerified"]) == ("PASSED", "2026-01-02T03:04:05Z")
    assert predicate["inputAttestations"] == [
        {"uri": claim.predicate_type, "digest": {"sha256": claim.payload_sha256}} for claim in verified.claims
    ]
    assert {claim["uri"] for claim in predicate["inputAttestations"]} == {claims.PROVENANCE, claims.TEST_RESULT, CLAIMS[2][0]}  # type: ignore
    needed = {
        "verifier",
        "timeVerified",
        "resourceUri",
        "policy",
        "inputAttestations",
        "verificationResult",
        "verifiedLevels",
        "slsaVersion",
    }
    assert predicate.keys() == needed


def test_its_policy_digest_changes_with_what_was_asked(release: Path, key: PrivateKey) -> None:
    def digest(**changes: Any) -> str:
        return str(json.loads(summary(release, key, **changes))["predicate"]["policy"]["digest"]["sha256"])

    asked = [{}, {"required": []}, {"required": ["max-age=91d"]}, {"trusted": ["00" * 32]}]
    assert len({digest(**changes) for changes in asked}) == len(asked)
    assert digest(trusted=["a", "b"]) == digest(trusted=["b", "a"])


def test_a_signed_one_is_read_like_any_other_statement(release: Path, key: PrivateKey, other: PrivateKey) -> None:
    payload = summary(release, key)
    bundle = dsse.loads(vsa.signed(payload, other), "vsa")
    assert bundle.payload == payload
    assert keys.key_id(dsse.signer(bundle, [key.public_key(), other.public_key()], "vsa", "it")) == keys.key_id(other.public_key())
