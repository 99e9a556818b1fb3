"""Sign a release directory, first or beside others; add claims to one that is signed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from safeflux_signing import claims as claim_file
from safeflux_signing import dsse, keys, linefiles, manifest, names, sidefiles, signers, tree
from safeflux_signing.errors import gravest, refusal
from safeflux_signing.trust import TrustStore
from safeflux_signing.verify import MAX_CLAIMS, MAX_SIGNATURE, verify

logger = logging.getLogger(__name__)

GIT = (".git", ".gitattributes", ".github", ".gitignore")


def sign(
    directory: Path,
    key: signers.AnySigner,
    *,
    release_id: str,
    sequence: int,
    name: str | None = None,
    claims: Sequence[tuple[str, object]] = (),
    commitment: bytes | None = None,
    created: datetime | None = None,
    progress: tree.Progress | None = None,
) -> Path:
    """Sign every file below ``directory``; returns the path of the signature, ``directory/model.sig``.

    ``claims`` are (predicate type, predicate) pairs, written to ``claims.jsonl`` and required by the signature, as is
    ``commitment``, a line that was signed before there were files (see commitments.py).
    ``sequence`` must grow with each release of the same ``name``, with which and a hyphen ``release_id`` begins (without a
    name, nobody can tell an old release from a new one); ``created`` is now unless given, kept to the second. The same
    files, key and values give the same bytes if the key's signatures are deterministic (see keys.py), which those of Sigstore's
    signers never are. An older signature, older claims and co-signatures are replaced, the signature last: killed in between, it
    leaves a directory that does not verify.

    Raises UnsafeReleaseError with everything in the directory that cannot be signed (links, empty directories, names that
    are not portable...), and InputError for values that cannot stand in a signature, a signer that fails or a directory
    that cannot be written.
    """
    moment = (created or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
    subject = directory.resolve().name or "model"
    with tree.opened(directory) as root:
        sidefiles.remove(root, (sidefiles.partial_name(side) for side in names.SIDE_FILES))
        entries = _entries(root, progress)
        digests = manifest.subject_digests(entries)
        lines, required = claim_file.seal(claims, subject, digests, key, commitment)
        release = _checked(manifest.Release(release_id, sequence, moment, required, name))
        payload = manifest.dumps(subject, entries, release, certified=isinstance(key, signers.Certified))
        _put(root, lines, dsse.line(payload, key))
    logger.info("signed %d files as %s by %s", len(entries), release_id, signers.ident(key))
    return directory / names.SIGNATURE


def cosign(
    directory: Path, key: signers.SigningKey, trust: TrustStore | Sequence[keys.PublicKey], *, progress: tree.Progress | None = None
) -> Path:
    """Sign the manifest of ``directory`` beside its publisher, after ``verify`` under ``trust`` in all who have signed before.

    Returns the path of the file with the co-signatures. Raises what ``verify`` raises; BadSignatureError
    (cosignature-repeated) for a key that has signed already; InputError (key-wanted, signer-failed, directory-unwritable).
    """
    key_id = keys.key_id(signers.signer_of(key).public_key())
    verified = verify(directory, trust, progress=progress)
    if key_id in (verified.key_id, *verified.cosigners):
        raise refusal("cosignature-repeated", names.COSIGNATURES, "this key has signed already", actual=key_id)
    with tree.opened(directory) as root:
        payload = dsse.payload_of(tree.read(root, names.SIGNATURE, MAX_SIGNATURE) or b"", names.SIGNATURE)
        signed = manifest.loads(payload, names.SIGNATURE, certified=verified.identity is not None)
        if (signed.entries, signed.release) != (verified.entries, verified.release):
            raise refusal("file-changed", names.SIGNATURE, "it was exchanged after it had been checked")
        _append(root, names.COSIGNATURES, MAX_SIGNATURE, dsse.line(payload, key))
    logger.info("%s signed too, with key %s", directory, key_id)
    return directory / names.COSIGNATURES


def add_claim(
    directory: Path,
    key: signers.AnySigner,
    trust: TrustStore | Sequence[keys.PublicKey],
    claim: tuple[str, object],
    *,
    progress: tree.Progress | None = None,
) -> Path:
    """Add a ``claim`` (predicate type, predicate) about ``directory``, after ``verify`` under ``trust`` in all who have signed before.

    The publisher's signature is not touched, and does not require the claim: whoever wants it there has to ask for it when
    verifying. Returns the path of the file with the claims. Raises what ``verify`` raises; ClaimError (claim-repeated) for
    one that is there; InputError (release-field, signer-failed, directory-unwritable).
    """
    verified = verify(directory, trust, progress=progress)
    payload = claim_file.written(*claim, directory.resolve().name or "model", verified.digests, key)
    if (digest := hashlib.sha256(payload).hexdigest()) in {one.payload_sha256 for one in verified.claims}:
        raise refusal("claim-repeated", names.CLAIMS, "this very claim is there already", actual=digest)
    with tree.opened(directory) as root:
        _append(root, names.CLAIMS, MAX_CLAIMS, dsse.line(payload, key))
    logger.info("claimed %s of %s by %s", claim[0], directory, signers.ident(key))
    return directory / names.CLAIMS


def _append(root: int, name: str, limit: int, line: bytes) -> None:
    """One line more in a file of one bundle a line, which is replaced as a whole."""
    data = (tree.read(root, name, limit) or b"") + line
    linefiles.split(data, name)  # what could not be read again is not written
    sidefiles.remove(root, [sidefiles.partial_name(name)])
    sidefiles.fresh(root, name, data)


def _checked(release: manifest.Release) -> manifest.Release:
    try:
        return manifest.checked(release)
    except (TypeError, ValueError) as error:
        raise refusal("release-field", names.SIGNATURE, str(error)) from error


def _put(root: int, claims: bytes, signature: bytes) -> None:
    """Replace all that an older signature left, the signature last."""
    sidefiles.remove(root, [names.COSIGNATURES])
    if claims:
        sidefiles.fresh(root, names.CLAIMS, claims)
    else:
        sidefiles.remove(root, [names.CLAIMS])
    sidefiles.fresh(root, names.SIGNATURE, signature)


def _entries(root: int, progress: tree.Progress | None) -> tuple[manifest.Entry, ...]:
    scan = tree.scan(root)
    if scan.findings:
        raise gravest(scan.findings)
    if not scan.sizes:
        raise refusal("no-files", ".", "the directory holds no files")
    digests, findings = tree.digests(root, scan.sizes, progress)
    if findings:
        raise gravest(findings)
    if git := [name for name in digests if name.split("/")[0] in GIT]:
        logger.warning("signing %s: other OMS verifiers skip git's files unless told otherwise (--no-ignore-git-paths)", ", ".join(git))
    return tuple(manifest.Entry(name, digests[name]) for name in sorted(digests))
