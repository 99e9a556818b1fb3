"""Whom a user trusts, for which releases, and until when. What stands in a release is never a reason to trust it.

A key is its SubjectPublicKeyInfo, whatever it is called and however it was written down: everything here counts key ids.
Times are the verifier's own: a signature says when it was made, and so would whoever stole the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from safeflux_signing import keys, names
from safeflux_signing.claims import FILE as CLAIMS
from safeflux_signing.claims import Claim
from safeflux_signing.errors import Finding, found, refusal
from safeflux_signing.manifest import Release

Role = Literal["publisher", "auditor"]
ROLES: tuple[Role, ...] = get_args(Role)
ANY = ("*",)


@dataclass(frozen=True)
class Revocation:
    """Why something is no longer trusted, and since when (UTC, to the second). The time is for people: it is never looked at."""

    reason: str
    date: datetime


@dataclass(frozen=True)
class TrustedKey:
    """What one public key may vouch for.

    ``models``: globs (``fnmatch``, case matters) over the ids of releases; ``predicates``: the same over predicate types of
    claims. Valid from ``not_before`` to ``not_after``, both included; None is without end. Only a "publisher" may sign a
    release; an "auditor" may sign claims about it, and its manifest beside a publisher.
    """

    key: keys.PublicKey
    publisher: str
    role: Role = "publisher"
    models: tuple[str, ...] = ANY
    predicates: tuple[str, ...] = ANY
    not_before: datetime | None = None
    not_after: datetime | None = None
    revoked: Revocation | None = None

    @cached_property
    def key_id(self) -> str:
        return keys.key_id(self.key)

    @property
    def known_as(self) -> str:
        return self.key_id


@dataclass(frozen=True)
class TrustedIdentity:
    """Whoever Sigstore's certificates call ``identity`` (an address or a URI, exactly), attested by ``issuer`` (a URL, exactly).

    What it may vouch for is written as for a key.
    """

    identity: str
    issuer: str
    publisher: str
    role: Role = "publisher"
    models: tuple[str, ...] = ANY
    predicates: tuple[str, ...] = ANY
    not_before: datetime | None = None
    not_after: datetime | None = None
    revoked: Revocation | None = None

    @property
    def known_as(self) -> str:
        return f"{self.identity}, attested by {self.issuer}"

    def holding(self, key: keys.PublicKey) -> TrustedKey:
        """The key of one of its certificates."""
        return TrustedKey(key, self.publisher, self.role, self.models, self.predicates, self.not_before, self.not_after, self.revoked)


@dataclass(frozen=True)
class Threshold:
    """At least ``keys`` different keys that have one of ``roles`` must have signed any release whose id fits one of ``models``.

    A release without an id, as other tools sign them, must meet every threshold there is. It binds names and no keys: one whose own
    ``models`` are wider still signs releases of other names alone.
    """

    keys: int
    roles: tuple[Role, ...] = ("publisher",)
    models: tuple[str, ...] = ANY


@dataclass(frozen=True)
class TrustStore:
    """All that a user trusts. Raises InputError (trust-invalid) where a key or identity stands in it twice, under whatever names.

    ``sigstore_root``: the file, relative to the directory ``home``, of the authorities by which ``identities`` are told; None without any.

    ``remember``: the file, relative to the directory ``home``, that keeps the highest sequence seen of each release; None keeps nothing.
    """

    entries: tuple[TrustedKey, ...] = ()
    revoked_releases: tuple[tuple[str, Revocation], ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    remember: str | None = None
    identities: tuple[TrustedIdentity, ...] = ()
    sigstore_root: str | None = None
    home: Path = field(default=Path(), compare=False)

    def __post_init__(self) -> None:
        ids = [entry.key_id for entry in self.entries]
        if twice := next((one for one in ids if ids.count(one) > 1), None):
            raise refusal("trust-invalid", "the trust store", f"the key {twice} stands in it twice", actual=twice)
        named = [(one.identity, one.issuer) for one in self.identities]
        if len(set(named)) < len(named) or bool(named) != (self.sigstore_root is not None):
            what = "an identity stands in it twice, or there are identities without a sigstore_root, or the other way round"
            raise refusal("trust-invalid", "the trust store", what)

    @property
    def public_keys(self) -> list[keys.PublicKey]:
        return [entry.key for entry in self.entries]

    def entry(self, key_id: str) -> TrustedKey | None:
        """The entry of the key with this id."""
        return next((entry for entry in self.entries if entry.key_id == key_id), None)


def bare(public_keys: Iterable[keys.PublicKey]) -> TrustStore:
    """Trust in keys and nothing else: each may sign any release and any claim. A key given twice counts once."""
    return TrustStore(tuple({entry.key_id: entry for entry in (TrustedKey(key, "") for key in public_keys)}.values()))


def standing(entry: TrustedKey | TrustedIdentity, release_id: str | None, now: datetime, file: str, what: str) -> list[Finding]:
    """Why a key, or one of an identity, counts for nothing at ``now``, or for this release.

    ``release_id`` "": a release without one; None: no release at all. ``what`` names the thing signed in a sentence, ``file`` where it
    stands.
    """
    whose = f"{what} is signed by a key{f' of {entry.publisher}' if entry.publisher else ''} that"
    if entry.revoked:
        why = f"{whose} was revoked on {entry.revoked.date:%Y-%m-%d}: {entry.revoked.reason}"
        return [found("key-revoked", file, why, actual=entry.known_as)]
    findings = []
    if entry.not_before and now < entry.not_before:
        findings.append(found("key-not-yet-valid", file, f"{whose} is not valid yet", expected=f"from {entry.not_before}", actual=now))
    if entry.not_after and now > entry.not_after:
        findings.append(found("key-expired", file, f"{whose} is no longer valid", expected=f"until {entry.not_after}", actual=now))
    if release_id is not None and not _fits(release_id, entry.models):
        allowed = ", ".join(entry.models)
        findings.append(
            found("key-namespace", file, f"{whose} is not trusted for this release", expected=allowed, actual=release_id or "no id")
        )
    return findings


def judge(
    store: TrustStore, signer: keys.PublicKey, others: Sequence[keys.PublicKey], release: Release | None, now: datetime
) -> list[Finding]:
    """Everything that speaks against trusting a manifest that these keys, all in ``store``, have signed; ``signer`` first.

    A co-signer that does not count is no fault: it is what thresholds are for.
    """
    file, what, release_id = names.SIGNATURE, "the manifest", release.release_id if release else ""
    main = entry_of(store, signer)
    findings = standing(main, release_id, now, file, what)
    if main.role != "publisher":
        findings.append(found("key-role", file, f"{what} is signed by a key of another role", expected="publisher", actual=main.role))
    for revoked_id, revocation in store.revoked_releases:
        if revoked_id == release_id:
            why = f"this release was revoked on {revocation.date:%Y-%m-%d}: {revocation.reason}"
            findings.append(found("release-revoked", file, why, actual=release_id))
    signed = {entry.key_id: entry for entry in (main, *(entry_of(store, key) for key in others))}
    counted = [entry for entry in signed.values() if not standing(entry, release_id, now, file, what)]
    for rule in store.thresholds:
        have = sum(entry.role in rule.roles for entry in counted)
        if (not release_id or _fits(release_id, rule.models)) and have < rule.keys:
            why = f"too few trusted keys with the role {' or '.join(rule.roles)} have signed"
            findings.append(found("signatures-too-few", file, why, expected=f"{rule.keys} different keys", actual=have))
    return findings


def judge_claims(store: TrustStore, claims: Iterable[Claim], release: Release | None, now: datetime) -> list[Finding]:
    """Everything that speaks against trusting verified ``claims``, each signed by somebody in ``store``."""
    findings: list[Finding] = []
    for claim in claims:
        entry = _claimant(store, claim)
        what = f"the claim {claim.predicate_type}"
        findings += standing(entry, release.release_id if release else "", now, CLAIMS, what)
        if not _fits(claim.predicate_type, entry.predicates):
            why = f"{what} is of a type that its signer is not trusted with"
            findings.append(found("claim-not-allowed", CLAIMS, why, expected=", ".join(entry.predicates), actual=claim.predicate_type))
    return findings


def named(store: TrustStore, claims: Iterable[Claim]) -> tuple[Claim, ...]:
    """``claims``, each signed by somebody in ``store``, with who signed them and in which role."""
    return tuple(replace(claim, publisher=who.publisher, role=who.role) for claim in claims for who in [_claimant(store, claim)])


def _claimant(store: TrustStore, claim: Claim) -> TrustedKey | TrustedIdentity:
    who = claim.identity or store.entry(claim.key_id)
    assert who is not None
    return who


def entry_of(store: TrustStore, key: keys.PublicKey) -> TrustedKey:
    """The entry of a key that is in ``store``, as any is whose signature was checked against the store's keys."""
    entry = store.entry(keys.key_id(key))
    assert entry is not None
    return entry


def _fits(text: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(text, glob) for glob in globs)
