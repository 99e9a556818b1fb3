"""A verification summary (SLSA VSA v1): says to others that a release was verified, with what and against what.

https://slsa.dev/spec/v1.0/verification_summary. It is a statement about the same subject as the release's own, so it fits
only these files. It claims no SLSA level: what was evaluated is listed under its policy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

from safeflux_signing import dsse, manifest, signers, strictjson
from safeflux_signing.verify import Verified

PREDICATE_TYPE = "https://slsa.dev/verification_summary/v1"


def statement(
    verified: Verified,
    *,
    subject: str,
    resource: str,
    verifier: str,
    versions: Mapping[str, str],
    policy: str,
    trusted: Sequence[str],
    required: Sequence[str],
    now: datetime,
) -> bytes:
    """The statement, as JSON, that the release was verified at the time ``now`` and keeps everything ``required`` of it.

    ``subject`` names the release for people; ``resource`` is its URI, ``verifier`` that of who verified, with its tools'
    ``versions``. ``policy`` is the URI of what was checked: a signature by one of ``trusted`` (key ids, identities), and the
    requirements in ``required``.
    """
    asked: dict[str, object] = {"keys": sorted(trusted), "require": list(required)}
    predicate = {
        "verifier": {"id": verifier, "version": dict(versions)},
        "timeVerified": strictjson.write_time(now),
        "resourceUri": resource,
        "policy": {"uri": policy, "digest": {"sha256": hashlib.sha256(strictjson.dumps(asked)).hexdigest()}, "annotations": asked},
        "inputAttestations": [{"uri": claim.predicate_type, "digest": {"sha256": claim.payload_sha256}} for claim in verified.claims],
        "verificationResult": "PASSED",
        "verifiedLevels": ["SLSA_BUILD_LEVEL_UNEVALUATED"],
        "slsaVersion": "1.0",
    }
    return manifest.statement(subject, verified.digests, PREDICATE_TYPE, predicate)


def signed(payload: bytes, key: signers.SigningKey) -> bytes:
    """The statement ``payload`` in a bundle signed with ``key``, in the same form as the signature of a release."""
    return dsse.line(payload, key)
