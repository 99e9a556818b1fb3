"""A claim made before there were files: what was fixed, by its digest, and when.

Whoever is to be held to a set of rules signs their digest first and acts on them afterwards. Such a claim cannot be about the
release, of which nothing is there yet, so its subject is what was fixed; the manifest binds it to the release by requiring
it. One that no manifest requires says nothing about any release, and is refused.

The time is the signer's own word. Whoever wants more has the line handed over, or published, before: what the release holds
in the end must be that very line. One that is signed under a certificate of Sigstore's has been: a log saw it while the certificate
was good, which is for minutes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from safeflux_signing import dsse, manifest, names, signers, strictjson
from safeflux_signing.errors import refusal
from safeflux_signing.strictjson import Json

PREDICATE_TYPE = "urn:safeflux:commitment:v1"

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Fixed:
    """A digest (SHA-256 in hex) that was fixed at a time (UTC, to the second)."""

    sha256: str
    time: datetime


@dataclass(frozen=True)
class Commitment:
    """``name`` says what the thing is that was ``fixed``. ``earlier``, oldest first: what had been fixed before in its place."""

    name: str
    fixed: Fixed
    earlier: tuple[Fixed, ...] = ()


def seal(commitment: Commitment, key: signers.AnySigner) -> bytes:
    """The signed line that goes into ``claims.jsonl``. Raises InputError (signer-failed)."""
    predicate = {"time": strictjson.write_time(commitment.fixed.time), "earlier": [_json(one) for one in commitment.earlier]}
    payload = manifest.statement(commitment.name, {"sha256": commitment.fixed.sha256}, PREDICATE_TYPE, predicate)
    return dsse.line(payload, key)


def loads(payload: bytes, file: str) -> Commitment:
    """The commitment that the statement ``payload`` makes. Raises UnsafeReleaseError (statement-shape)."""
    code = "statement-shape"
    subject, predicate_type, predicate = manifest.read_statement(payload, file)
    if predicate_type != PREDICATE_TYPE:
        raise refusal(code, file, "a statement of another type", expected=PREDICATE_TYPE, actual=predicate_type)
    fields = strictjson.fields(predicate, "the commitment", file, code, {"time", "earlier"}, set())
    digest = strictjson.fields(subject["digest"], "the digest of the commitment", file, code, {"sha256"}, set())
    if not isinstance(fields["earlier"], list):
        raise refusal(code, file, "what was fixed earlier is not a list")
    earlier = tuple(
        _fixed(strictjson.fields(one, "a commitment", file, code, {"sha256", "time"}, set()), file) for one in fields["earlier"]
    )
    return Commitment(str(subject["name"]), _fixed({**digest, "time": fields["time"]}, file), earlier)


def line(data: bytes) -> tuple[Commitment, bytes]:
    """The commitment in a line that ``seal`` made, and the payload that was signed. Raises UnsafeReleaseError."""
    payload = dsse.payload_of(data.removesuffix(b"\n"), names.CLAIMS)
    return loads(payload, names.CLAIMS), payload


def _fixed(fields: dict[str, Json], file: str) -> Fixed:
    digest = fields["sha256"]
    try:
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise ValueError("not a SHA-256")
        return Fixed(digest, strictjson.read_time(fields["time"]))
    except ValueError as error:
        raise refusal("statement-shape", file, f"a commitment without a digest or time: {error}") from None


def _json(fixed: Fixed) -> dict[str, str]:
    return {"sha256": fixed.sha256, "time": strictjson.write_time(fixed.time)}
