"""What hostile bytes are thrown at: each target reads them, and holds what it read against what must be true of it.

All keys are fixed and their signatures deterministic, so an input that was found once does the same again.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from safeflux_signing import claims, commitments, cosignatures, dsse, keyless, keys, manifest, strictjson, trustchanges, trustfile
from safeflux_signing.errors import InputError, SigningError, VerificationError
from safeflux_signing.names import complaint
from safeflux_signing.trust import ROLES, Revocation, Threshold, TrustedIdentity, TrustedKey, TrustStore

sys.path.append(str(Path(__file__).parents[1] / "tests" / "signing"))

from sigstore_fakes import ACME, Sigstore

KEY, SECOND, NEW, *SIGSTORE = (ec.derive_private_key(number, ec.SECP256R1()) for number in range(7, 14))
THIRD = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
MOMENT = datetime(2026, 1, 2, tzinfo=UTC)

ENTRIES = tuple(manifest.Entry(name, hashlib.sha256(name.encode()).hexdigest()) for name in ("a-b", "a/x", "model_index.json"))
PROMISE = commitments.seal(commitments.Commitment("p", commitments.Fixed("ab" * 32, MOMENT), (commitments.Fixed("cd" * 32, MOMENT),)), KEY)
MADE = [("urn:a", {"x": [1, 2.5, None]}), ("urn:b", "y")]
DIGESTS = manifest.subject_digests(ENTRIES)
CLAIMS, REQUIRED = claims.seal(MADE, "m", DIGESTS, KEY, PROMISE)
RELEASE = manifest.Release("demo-1.0", 3, MOMENT, REQUIRED)
MANIFEST = manifest.Manifest("m", ENTRIES, RELEASE)
PAYLOAD = manifest.dumps("m", ENTRIES, RELEASE)
COSIGNED = {dsse.dumps(dsse.seal(PAYLOAD, key)): keys.key_id(key.public_key()) for key in (SECOND, THIRD)}

GRANTED = TrustedKey(KEY.public_key(), "Acme", models=("acme-*",))
STORE = TrustStore((GRANTED, replace(GRANTED, key=SECOND.public_key()), TrustedKey(THIRD.public_key(), "Auditors", "auditor")))
ROTATIONS = [trustchanges.rotation(old, NEW.public_key()) for old in ([KEY], [KEY, SECOND])]
GONE = Revocation("lost", MOMENT)
TRUST = trustfile.dumps(
    TrustStore(
        (
            replace(GRANTED, publisher='A "B" \\ Ö', not_before=MOMENT, not_after=MOMENT.replace(year=2030)),
            TrustedKey(THIRD.public_key(), "Auditors", "auditor", predicates=("urn:*",), revoked=GONE),
        ),
        (("acme-1", GONE),),
        (Threshold(2, ROLES, ("acme-*",)),),
        "seen.json",
        (TrustedIdentity("a@example.org", "https://example.org", "Acme"),),
        "root.json",
    )
)
PEM = TRUST.replace(b'public = "', b'public = """\n' + keys.public_pem(KEY.public_key()) + b'"""\n#"', 1)

HOME = tempfile.TemporaryDirectory()
AUTHORITIES = Sigstore(*SIGSTORE)
AUTHORITIES.write_root(Path(HOME.name) / "root.json")
ACME_ONLY = TrustStore(identities=(ACME,), sigstore_root="root.json", home=Path(HOME.name))


AUDIT = manifest.statement("m", {"sha256": DIGESTS["sha256"]}, "urn:c", {"x": 1}, annotations={"dirHash1": DIGESTS["dirHash1"]})
AUDITED = strictjson.dumps(json.loads(AUTHORITIES.sign(AUDIT)))
EVERYBODY = replace(ACME_ONLY, entries=(TrustedKey(KEY.public_key(), "Acme"),))
CLAIMED = {*REQUIRED, manifest.RequiredClaim("urn:c", hashlib.sha256(AUDIT).hexdigest())}


class Target(NamedTuple):
    """``check`` may refuse what it is given with ``refusal``, and nothing else; the good documents ``seeds`` it reads."""

    check: Callable[[bytes], None]
    seeds: list[bytes]
    refusal: type[SigningError] = VerificationError


def bundle(data: bytes) -> None:
    """What is read as a bundle is written and read again as the same one."""
    read = dsse.loads(data, "f")
    assert dsse.loads(dsse.dumps(read), "f") == read


def signed_manifest(data: bytes) -> None:
    """What is read as a manifest lists safe names, and is written and read again as the same one."""
    read = manifest.loads(data, "f")
    assert not any(map(complaint, (entry.name for entry in read.entries)))
    if read.release and list(read.entries) == sorted(read.entries, key=lambda entry: entry.name):
        assert manifest.loads(manifest.dumps(read.name, read.entries, read.release), "f") == read


def commitment(data: bytes) -> None:
    """What is read as a commitment is written and read again as the same one."""
    read = commitments.loads(data, "f")
    assert commitments.line(commitments.seal(read, KEY))[0] == read


def claim_lines(data: bytes) -> None:
    """No claim is taken for signed but those that were, by whom they were, whatever stands around them.

    Of the one under a certificate only what its log says may be written in another way.
    """
    taken, findings = claims.check(data, MANIFEST, EVERYBODY)
    assert {manifest.RequiredClaim(claim.predicate_type, claim.payload_sha256) for claim in taken} <= CLAIMED
    assert all(claim.identity == (ACME if claim.predicate_type == "urn:c" else None) for claim in taken)
    if not findings:
        lines = data.splitlines()
        certified = [dsse.under_certificate(line, "f") for line in lines if dsse.certified(line, "f")]
        assert sorted(line for line in lines if not dsse.certified(line, "f")) == sorted(CLAIMS.splitlines())
        assert [replace(one, material={}) for one in certified] in ([], [replace(dsse.under_certificate(AUDITED, "f"), material={})])


def cosignature_lines(data: bytes) -> None:
    """Nobody is taken for a co-signer but who wrote one of the lines, and nothing stands beside these without being found."""
    others, findings = cosignatures.check(data, PAYLOAD, KEY.public_key(), [key.public_key() for key in (SECOND, THIRD, KEY)])
    *lines, rest = data.split(b"\n")
    assert {keys.key_id(key) for key in others} <= {COSIGNED[line] for line in (*lines, rest) if line in COSIGNED}
    assert findings or (not rest and len(lines) == len(others) and set(lines) <= COSIGNED.keys())


def rotation(data: bytes) -> None:
    """Nobody names an heir but the old keys, and it has what these had. What is no bundle is signed, to see what lies behind that."""
    given = b'"dsseEnvelope"' in data
    store, heir = trustchanges.rotate(STORE, data if given else dsse.dumps(dsse.seal(data, KEY)) + b"\n", MOMENT, "f")
    assert not given or sorted(data.splitlines()) in [sorted(statement.splitlines()) for statement in ROTATIONS]
    assert heir == replace(GRANTED, key=heir.key)
    gone = {one.key_id for one in store.entries if one.revoked}
    assert gone in ({one.key_id for one in STORE.entries[:count]} for count in (1, 2))
    assert [replace(one, revoked=None) for one in store.entries] == [*STORE.entries, heir]


def trust_file(data: bytes) -> None:
    """What is read as a trust file is written and read again as the same one. It is refused for itself, whatever is in it."""
    try:
        read = trustfile.loads(data, "f")
    except InputError as error:
        if {finding.code for finding in error.findings} != {"trust-invalid"}:
            raise AssertionError("refused for another reason") from error
        raise
    again = trustfile.loads(trustfile.dumps(read), "f")
    assert {one.key_id: one for one in again.entries} == {one.key_id: one for one in read.entries}
    for name in ("identities", "thresholds", "revoked_releases", "remember", "sigstore_root"):
        assert sorted(map(repr, getattr(again, name) or ())) == sorted(map(repr, getattr(read, name) or ()))


def certificate(data: bytes) -> None:
    """Nothing is taken for signed with a certificate but what was, and by whom it was."""
    identity, key, payload, _ = keyless.signer(data, ACME_ONLY, "f")
    assert (identity, keys.key_id(key), payload) == (ACME, keys.key_id(SIGSTORE[-1].public_key()), PAYLOAD)


TARGETS = {
    "bundle": Target(bundle, [dsse.dumps(dsse.seal(PAYLOAD, KEY)), CLAIMS.splitlines()[0]]),
    "manifest": Target(signed_manifest, [PAYLOAD]),
    "claims": Target(claim_lines, [CLAIMS, CLAIMS + AUDITED + b"\n"]),
    "commitment": Target(commitment, [commitments.line(PROMISE)[1]]),
    "cosignatures": Target(cosignature_lines, [b"".join(line + b"\n" for line in COSIGNED)]),
    "rotation": Target(rotation, [*ROTATIONS, dsse.loads(ROTATIONS[0][:-1], "f").payload], SigningError),
    "trust": Target(trust_file, [TRUST, PEM], InputError),
    "certificate": Target(certificate, [AUTHORITIES.sign(PAYLOAD)]),
}
