"""Signed statements about a release: how it was made, how it was tested, or anything else with a predicate type.

``claims.jsonl`` holds one DSSE bundle per line, each an in-toto statement whose subject is the release by the same two
digests as a key's manifest (the one exception: commitments.py). The manifest in turn lists the SHA-256 of the payload of each
required claim, so none can be stripped or swapped; as it lists no digest of ``claims.jsonl`` itself, there is no circle, and
more claims can be added later.
Every line must be signed by a key the user gave, or under a certificate of an identity that the user's trust file names: a claim that
nobody vouches for is an unsigned addition like any other. A certificate's line is canonical JSON, too, but what logs and time stamps
say in it can be said in more than one way (see keyless.py), of which each says that the same was signed by the same. Sigstore takes no
``dirHash1`` for a digest, so that under a certificate it stands among the annotations of the subject, which in-toto has for the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from safeflux_signing import commitments, dsse, keys, linefiles, manifest, names, signers, strictjson
from safeflux_signing.commitments import Commitment
from safeflux_signing.errors import Finding, SigningError, found, refusal
from safeflux_signing.strictjson import Json

if TYPE_CHECKING:
    from safeflux_signing.trust import TrustedIdentity, TrustStore

PROVENANCE = "https://slsa.dev/provenance/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"

FILE = names.CLAIMS

_NO_CLAIMS = (manifest.PREDICATE_TYPE, manifest.OUTDATED_TYPE)


@dataclass(frozen=True)
class Claim:
    """A verified claim: which key signed it (``key_id``), and whether the publisher's signature requires it.

    ``commitment``: what it fixed before there were files, if that is what it claims; of any other, None. ``publisher`` and
    ``role`` are the trust file's words for who holds the key; a bare key is nobody's ("") and, as it may sign anything, a publisher's.
    ``identity``: whose certificate the key is of, where it is none that is kept, and ``logged`` when a log saw the signature (UTC).
    """

    predicate_type: str
    predicate: Json
    payload_sha256: str
    key_id: str
    required: bool
    commitment: Commitment | None = None
    publisher: str = ""
    role: str = "publisher"
    identity: TrustedIdentity | None = None
    logged: datetime | None = None


def resource(uri: str, digests: Mapping[str, str], name: str | None = None) -> dict[str, object]:
    """An in-toto resource descriptor: something that has a URI and digests in hex by algorithm."""
    return {"uri": uri, "digest": dict(digests), **({"name": name} if name else {})}


def provenance(
    *,
    build_type: str,
    builder: str,
    parameters: Mapping[str, object],
    internal: Mapping[str, object] | None = None,
    dependencies: Sequence[Mapping[str, object]] = (),
    versions: Mapping[str, str] | None = None,
    started: datetime | None = None,
    finished: datetime | None = None,
) -> tuple[str, dict[str, object]]:
    """A SLSA provenance v1 claim (predicate type, predicate): from what, by what and with which settings a release was made.

    ``build_type`` and ``builder`` are URIs; ``parameters`` what the publisher chose, ``internal`` what the tool set (seeds);
    ``dependencies`` what went in, as ``resource``s; ``versions`` of the tools. It states facts and claims no SLSA level.
    """
    definition: dict[str, object] = {"buildType": build_type, "externalParameters": dict(parameters)}
    if internal:
        definition["internalParameters"] = dict(internal)
    if dependencies:
        definition["resolvedDependencies"] = [dict(dependency) for dependency in dependencies]
    times = {"startedOn": started, "finishedOn": finished}
    metadata = {key: strictjson.write_time(time) for key, time in times.items() if time}
    made_by: dict[str, object] = {"id": builder, **({"version": dict(versions)} if versions else {})}
    details: dict[str, object] = {"builder": made_by, **({"metadata": metadata} if metadata else {})}
    return PROVENANCE, {"buildDefinition": definition, "runDetails": details}


def outcome(
    *,
    configuration: Sequence[Mapping[str, object]],
    passed: Iterable[str] = (),
    warned: Iterable[str] = (),
    failed: Iterable[str] = (),
    url: str | None = None,
) -> tuple[str, dict[str, object]]:
    """An in-toto test-result v0.1 claim (predicate type, predicate); its result follows from the tests.

    ``configuration``: what fixed the tests, as ``resource``s (a policy file and its digest). No test at all counts as failed.
    """
    passes, warnings, failures = list(passed), list(warned), list(failed)
    result = "FAILED" if failures or not (passes or warnings) else "WARNED" if warnings else "PASSED"
    tests = {"passedTests": passes, "warnedTests": warnings, "failedTests": failures}
    about = {"configuration": [dict(item) for item in configuration], **({"url": url} if url else {})}
    return TEST_RESULT, {"result": result, **about, **tests}


def seal(
    claims: Iterable[tuple[str, object]], subject: str, digests: Mapping[str, str], key: signers.AnySigner, commitment: bytes | None = None
) -> tuple[bytes, tuple[manifest.RequiredClaim, ...]]:
    """The content of ``claims.jsonl`` for (predicate type, predicate) pairs, and what the manifest has to require.

    ``commitment``: the line of one that was made before. Raises InputError: release-field for a manifest posing as a claim,
    for the same claim twice, for too many and for what is not JSON; signer-failed.
    """
    lines, required = [], []
    if commitment is not None:
        lines.append(commitment)
        required.append(_identity(commitments.PREDICATE_TYPE, commitments.line(commitment)[1]))
    for predicate_type, predicate in claims:
        payload = written(predicate_type, predicate, subject, digests, key)
        claim = _identity(predicate_type, payload)
        if claim in required:
            raise refusal("release-field", FILE, f"the claim {predicate_type!r} is given twice")
        lines.append(dsse.line(payload, key))
        required.append(claim)
    if len(lines) > linefiles.MAX_LINES:
        raise refusal("release-field", FILE, "more claims than any verifier reads", expected=linefiles.MAX_LINES, actual=len(lines))
    return b"".join(lines), tuple(required)


def written(predicate_type: str, predicate: object, subject: str, digests: Mapping[str, str], key: signers.AnySigner) -> bytes:
    """The claim about a release as the bytes that ``key`` is to sign. Raises InputError (release-field)."""
    if predicate_type in _NO_CLAIMS or predicate_type == commitments.PREDICATE_TYPE:
        raise refusal("release-field", FILE, f"{predicate_type!r} is no claim about files")
    try:
        known, others = _apart(digests) if isinstance(key, signers.Certified) else (digests, {})
        payload = manifest.statement(subject, known, predicate_type, predicate, **others)
        manifest.read_statement(payload, FILE)
    except (TypeError, ValueError, RecursionError, SigningError) as error:
        raise refusal("release-field", FILE, f"the claim {predicate_type!r} cannot be written: {error}") from error
    return payload


def check(data: bytes | None, signed: manifest.Manifest, store: TrustStore) -> tuple[tuple[Claim, ...], list[Finding]]:
    """The claims in ``data`` (the content of ``claims.jsonl``, None if there is none), and everything that is wrong with them.

    Each is signed by somebody who stands in ``store``; whether it was theirs to claim is another question (trust.py).

    Raises SigningError where that is too much to go on, as ``linefiles.read`` does.
    """
    have: dict[manifest.RequiredClaim, Claim] = {}

    def take(line: bytes) -> None:
        claim = _claim(line, signed, store)
        identity = manifest.RequiredClaim(claim.predicate_type, claim.payload_sha256)
        if identity in have:
            raise refusal("claim-repeated", FILE, "the same claim again", actual=claim.payload_sha256)
        have[identity] = claim

    findings = linefiles.read(data, FILE, take)
    for required in signed.release.required if signed.release else ():
        if required not in have:
            what = f"the required claim {required.predicate_type} is missing or was exchanged"
            findings.append(found("claim-missing", FILE, what, expected=required.payload_sha256))
    return tuple(have.values()), findings


def _claim(line: bytes, signed: manifest.Manifest, store: TrustStore) -> Claim:
    """One verified line. Raises the VerificationError of what is wrong with it."""
    key, payload, who, logged = _signer(line, store)
    subject, predicate_type, predicate = manifest.read_statement(payload, FILE)
    if predicate_type in _NO_CLAIMS:
        raise refusal("predicate-type", FILE, "a manifest where a claim is wanted", actual=predicate_type)
    identity = _identity(predicate_type, payload)
    required = signed.release is not None and identity in signed.release.required
    commitment = None
    if predicate_type == commitments.PREDICATE_TYPE:
        if not required:
            raise refusal("claim-subject", FILE, "a commitment that the signature of this release does not require")
        commitment = commitments.loads(payload, FILE)
    else:
        true = manifest.subject_digests(signed.entries)
        about = said(subject) if who else subject["digest"]
        manifest.check_digests(about, true, {"sha256", "dirHash1"}, "claim-subject", FILE, "the claim is about other files: it")
    return Claim(predicate_type, predicate, identity.payload_sha256, keys.key_id(key), required, commitment, identity=who, logged=logged)


def _signer(line: bytes, store: TrustStore) -> tuple[keys.PublicKey, bytes, TrustedIdentity | None, datetime | None]:
    """Which key signed what in the line; where that was under a certificate, whose, and when it was logged."""
    if store.identities and dsse.certified(line, FILE):
        from safeflux_signing import keyless  # reads certificates, for which no other release has to wait

        identity, key, payload, logged = keyless.signer(line, store, FILE)
        one_way = line == strictjson.dumps(strictjson.loads(line, FILE, dsse.MAX_VALUES))
    else:
        bundle, identity, logged = dsse.loads(line, FILE), None, None
        key, payload = dsse.signer(bundle, store.public_keys, FILE, "the claim"), bundle.payload
        one_way = dsse.written_one_way(bundle, key, line)
    if not one_way:
        raise refusal("json-not-canonical", FILE, "the claim is not written the one way claims are written")
    return key, payload, identity, logged


def _apart(digests: Mapping[str, str]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """What a statement under a certificate says of its subject: as digests those that Sigstore takes, as annotations the others."""
    known = {"sha256": digests["sha256"]}
    return known, {"annotations": {name: value for name, value in digests.items() if name not in known}}


def said(subject: Mapping[str, Json]) -> Json:
    """The digests in which a statement under a certificate says what it is about; of one that stands there twice, that of the digests."""
    digests, others = subject["digest"], subject.get("annotations", {})
    return {**others, **digests} if isinstance(digests, dict) and isinstance(others, dict) else digests


def _identity(predicate_type: str, payload: bytes) -> manifest.RequiredClaim:
    return manifest.RequiredClaim(predicate_type, hashlib.sha256(payload).hexdigest())
