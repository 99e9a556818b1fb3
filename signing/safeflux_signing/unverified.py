"""What a directory says of itself, with nothing of it checked: to look at before there is a key, never to act upon.

Read as strictly as for a verification, but without keys: what cannot be read is listed, and the rest goes on. No
signature is looked at and no file is hashed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from safeflux_signing import dsse, manifest, names, tree
from safeflux_signing.errors import Finding, SigningError, found
from safeflux_signing.strictjson import Json
from safeflux_signing.verify import MAX_CLAIMS, MAX_SIGNATURE


@dataclass(frozen=True)
class SaidClaim:
    """``hint`` names a key in the bundle's own, unsigned words; ``required``: the manifest says that it must be there."""

    predicate_type: str
    predicate: Json
    payload_sha256: str
    hint: str
    required: bool


@dataclass(frozen=True)
class Said:
    """``manifest`` and ``hint`` are None if there is no signature that can be read; ``sizes``, in bytes, are those of the files
    that are there; ``troubles`` is what could not be read or may not be there."""

    hint: str | None
    manifest: manifest.Manifest | None
    claims: tuple[SaidClaim, ...]
    sizes: Mapping[str, int]
    troubles: tuple[Finding, ...]


def look(directory: Path) -> Said:
    """What ``directory`` says of itself. Raises InputError (directory-unreadable), and nothing for what is in it."""
    troubles: list[Finding] = []
    with tree.opened(directory) as root:
        scan = tree.scan(root)
        signature, lines = _read(root, names.SIGNATURE, MAX_SIGNATURE, troubles), _read(root, names.CLAIMS, MAX_CLAIMS, troubles)
    hint = signed = None
    if signature is None:
        troubles.append(found("signature-missing", names.SIGNATURE, "there is no signature to be read"))
    else:
        try:
            bundle = dsse.loads(signature, names.SIGNATURE)
            hint = bundle.hint
            signed = manifest.loads(bundle.payload, names.SIGNATURE)
        except SigningError as error:
            troubles += error.findings
    claims = _claims(lines or b"", signed, troubles)
    return Said(hint, signed, claims, scan.sizes, (*scan.findings, *troubles))


def _read(root: int, name: str, limit: int, troubles: list[Finding]) -> bytes | None:
    try:
        return tree.read(root, name, limit)
    except SigningError as error:
        troubles += error.findings
        return None


def _claims(data: bytes, signed: manifest.Manifest | None, troubles: list[Finding]) -> tuple[SaidClaim, ...]:
    required = set(signed.release.required) if signed and signed.release else set()
    claims = []
    for number, line in enumerate(data.removesuffix(b"\n").split(b"\n") if data else (), 1):
        try:
            bundle = dsse.loads(line, names.CLAIMS)
            _, predicate_type, predicate = manifest.read_statement(bundle.payload, names.CLAIMS)
        except SigningError as error:
            troubles += [replace(finding, what=f"line {number}: {finding.what}") for finding in error.findings]
            continue
        identity = manifest.RequiredClaim(predicate_type, hashlib.sha256(bundle.payload).hexdigest())
        claims.append(SaidClaim(predicate_type, predicate, identity.payload_sha256, bundle.hint, identity in required))
    there = {manifest.RequiredClaim(claim.predicate_type, claim.payload_sha256) for claim in claims}
    troubles += [
        found("claim-missing", names.CLAIMS, f"the required claim {one.predicate_type} is not there", expected=one.payload_sha256)
        for one in sorted(required - there, key=lambda one: (one.predicate_type, one.payload_sha256))
    ]
    return tuple(claims)
