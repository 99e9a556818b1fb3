"""Tell whether a directory is what its publisher signed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from safeflux_signing import claims as claim_file
from safeflux_signing import cosignatures, dsse, keys, manifest, names, seen, tree
from safeflux_signing import trust as trusting
from safeflux_signing.claims import Claim
from safeflux_signing.errors import Finding, SigningError, found, gravest, refusal
from safeflux_signing.trust import TrustedIdentity, TrustStore

MAX_SIGNATURE = 64 << 20
MAX_CLAIMS = 64 << 20


@dataclass(frozen=True)
class Verified:
    """A directory whose every byte is accounted for. There is no other way to get one than ``verify``.

    ``key_id`` is the signer's, ``publisher`` the trust file's name for whoever holds the key ("" for a bare key), ``cosigners``
    the ids of all other keys that signed. ``entries`` are all its files with their SHA-256, the side files aside. ``release`` is what
    the publisher says of it, None if signed by a tool that says nothing; ``claims`` are all signed by given keys or identities.
    ``identity``: whose certificate the signer's key is of, where it was signed without a key that is kept.
    """

    key_id: str
    entries: tuple[manifest.Entry, ...]
    release: manifest.Release | None
    claims: tuple[Claim, ...]
    publisher: str = ""
    cosigners: tuple[str, ...] = ()
    identity: TrustedIdentity | None = None

    @property
    def digests(self) -> Mapping[str, str]:
        """The digests of the release as a whole, by algorithm: "sha256" and "dirHash1"."""
        return manifest.subject_digests(self.entries)


Judge = Callable[[Verified], Iterable[Finding]]
"""Says what is wrong with claims that are all well signed; knows what they mean, as this package does not.

It is asked about what ``verify`` will return, if nobody finds anything: who signed the release, and the claims.
"""

Hold = Callable[[Verified], Iterable[Finding]]
"""Says in what a release that is good falls short of what its user asks for beyond that."""


def verify(
    directory: Path,
    trust: TrustStore | Sequence[keys.PublicKey],
    *,
    now: datetime | None = None,
    progress: tree.Progress | None = None,
    judge: Judge | None = None,
    hold: Hold | None = None,
) -> Verified:
    """Check signatures, files and claims of ``directory`` against whom the caller trusts; returns only if all is well.

    ``trust``: a store of keys with what each may vouch for, or bare public keys that may vouch for anything. ``now``, with
    its time zone, is what their validity is held against. ``judge`` is asked about the claims, too, with who signed them and
    the release, and ``hold`` last of all about the whole, if the caller asks for more than that it is good: what falls short of that
    is not remembered as seen.

    Everything below the directory must be in the signed manifest, but for model.sig, claims.jsonl and signatures.jsonl; these are
    checked down to how they are written, so in a release that this package signed with keys no byte can differ, and in one under a
    certificate none but of what logs and time stamps say. Never opens a socket,
    follows a link or trusts a list of exceptions in the release. Writes nothing, but for the memory a trust store asks for.

    Raises UntrustedKeyError, RevokedError or ThresholdError before any file is looked at; BadSignatureError,
    UnsafeReleaseError, TamperedError or ClaimError, see errors.py: from the moment the signature is trusted, one error lists
    everything that is wrong. Then RevokedError for one older than was seen, and the error of what ``hold`` finds. InputError if the
    directory, or that memory, cannot be used.
    """
    store = trust if isinstance(trust, TrustStore) else trusting.bare(trust)
    moment = now or datetime.now(UTC)
    if not store.public_keys and not store.identities:
        raise refusal("no-key", names.SIGNATURE, "no key was given and no trust file names one, so no signature can be trusted")
    with tree.opened(directory) as root:
        signed = _signed(root, store, moment)
        findings = _files(root, signed.manifest, progress)
        claims, wrong = _claims(root, signed.manifest, store)
    release = signed.manifest.release
    verified = _verified(signed, claims)
    wrong = [*wrong, *trusting.judge_claims(signed.store, claims, release, moment), *(judge(verified) if judge else ())]
    if every := [*findings, *signed.loose, *wrong]:
        raise gravest(dict.fromkeys(every))
    if store.remember:
        seen.check(store.home / store.remember, release)
    if hold and (short := tuple(hold(verified))):
        raise gravest(short)
    if store.remember:
        seen.note(store.home / store.remember, release)
    return verified


@dataclass(frozen=True)
class _Signed:
    """A manifest under signatures that are trusted: by ``key``, which is of the certificate of ``identity`` where there is one, and by
    ``others``; ``store`` knows them all. ``loose``: what is wrong with co-signatures beside them."""

    manifest: manifest.Manifest
    key: keys.PublicKey
    others: tuple[keys.PublicKey, ...]
    identity: TrustedIdentity | None
    store: TrustStore
    loose: Sequence[Finding]


def _verified(signed: _Signed, claims: Sequence[Claim]) -> Verified:
    signer = trusting.entry_of(signed.store, signed.key)
    cosigners = tuple(keys.key_id(other) for other in signed.others)
    said = trusting.named(signed.store, claims)
    return Verified(signer.key_id, signed.manifest.entries, signed.manifest.release, said, signer.publisher, cosigners, signed.identity)


def _signed(root: int, store: TrustStore, moment: datetime) -> _Signed:
    """Everything that is to be known of the signatures; raises if they are not good, or not of whom ``store`` trusts with this release."""
    signed, key, payload, identity = _signature(root, store)
    others, loose = _cosignatures(root, payload, key, store.public_keys)
    if identity:
        store = replace(store, entries=(*store.entries, identity.holding(key)))
    if untrusted := trusting.judge(store, key, others, signed.release, moment):
        raise gravest([*untrusted, *loose])
    return _Signed(signed, key, others, identity, store, loose)


def _signature(root: int, store: TrustStore) -> tuple[manifest.Manifest, keys.PublicKey, bytes, TrustedIdentity | None]:
    """The manifest under a good signature, the key that made it, the bytes that were signed, and whose certificate the key is of."""
    file = names.SIGNATURE
    data = tree.read(root, file, MAX_SIGNATURE)
    if data is None:
        raise refusal("signature-missing", file, "the directory has no signature")
    if store.identities and dsse.certified(data, file):
        from safeflux_signing import keyless  # reads certificates, for which no other release has to wait

        by = keyless.signer(data, store, file)
        return manifest.loads(by.payload, file, certified=True), by.key, by.payload, by.identity
    bundle = dsse.loads(data, file)
    try:
        key = dsse.signer(bundle, store.public_keys, file, "the manifest")
    except SigningError:
        manifest.refuse_outdated(bundle.payload, file)
        raise
    signed = manifest.loads(bundle.payload, file)
    if signed.release and not (data.endswith(b"\n") and dsse.written_one_way(bundle, key, data[:-1])):
        raise refusal("json-not-canonical", file, "the signature is not written the one way this format is written")
    return signed, key, bundle.payload, None


def _cosignatures(
    root: int, payload: bytes, signer: keys.PublicKey, public_keys: Sequence[keys.PublicKey]
) -> tuple[tuple[keys.PublicKey, ...], Sequence[Finding]]:
    try:
        return cosignatures.check(tree.read(root, names.COSIGNATURES, MAX_SIGNATURE), payload, signer, public_keys)
    except SigningError as error:
        return (), error.findings


def _claims(root: int, signed: manifest.Manifest, store: TrustStore) -> tuple[tuple[Claim, ...], Sequence[Finding]]:
    try:
        return claim_file.check(tree.read(root, names.CLAIMS, MAX_CLAIMS), signed, store)
    except SigningError as error:
        return (), error.findings


def _files(root: int, signed: manifest.Manifest, progress: tree.Progress | None) -> list[Finding]:
    """Everything in which the files that are there are not those that were signed."""
    scan = tree.scan(root)
    listed = {entry.name: entry.sha256 for entry in signed.entries}
    digests, unreadable = tree.digests(root, {name: size for name, size in scan.sizes.items() if name in listed}, progress)
    return [*scan.findings, *unreadable, *_differences(listed, scan, digests)]


def _differences(listed: Mapping[str, str], scan: tree.Scan, digests: Mapping[str, str]) -> list[Finding]:
    """All files that were changed, added or removed; those that could not be read are reported elsewhere."""
    odd = {finding.file for finding in scan.findings}
    changed = [
        found("file-changed", name, "the content was changed", expected=listed[name], actual=digest)
        for name, digest in digests.items()
        if digest != listed[name]
    ]
    added = [found("file-added", name, "a file that was not signed") for name in scan.sizes if name not in listed]
    removed = [
        found("file-removed", name, "the file is missing", expected=listed[name])
        for name in listed
        if name not in scan.sizes and name not in odd
    ]
    return sorted(changed + added + removed, key=lambda finding: finding.file)
