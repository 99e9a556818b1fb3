"""Verify a release: that it is what its publisher signed, and that its publisher kept to what it had fixed beforehand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from safeflux_signing import names
from safeflux_signing import verify as signing
from safeflux_signing.claims import PROVENANCE, TEST_RESULT, Claim
from safeflux_signing.errors import Finding, found
from safeflux_signing.strictjson import read_time
from safeflux_signing.trust import TrustedIdentity, TrustStore
from safeflux_signing.verify import Verified

if TYPE_CHECKING:
    from safeflux_signing.keys import PublicKey
    from safeflux_signing.strictjson import Json

ERASURE_REPORT = "urn:safeflux:erasure-report:v1"  # predicate type of the report as a signed claim
AUDIT_STARTED = "auditStarted"  # among the internal parameters of the provenance: when the audit was begun

_NAMED = {  # where a claim names the policy's digest
    ERASURE_REPORT: ("policy", "digest"),
    TEST_RESULT: ("configuration", 0, "digest", "sha256"),
}
_STARTED = ("buildDefinition", "internalParameters", AUDIT_STARTED)


def verify(
    directory: Path,
    trust: TrustStore | Sequence[PublicKey],
    *,
    now: datetime | None = None,
    progress: Callable[[int, int], None] | None = None,
    hold: signing.Hold | None = None,
) -> Verified:
    """Check signatures, files and claims of ``directory`` against whom the caller trusts; returns only if all is well.

    As ``safeflux_signing.verify.verify``, whose arguments and errors these are. Where the publisher had fixed the policy
    beforehand, ClaimError also if a report or tests of its own name another one, or if the audit was not begun afterwards.
    """
    return signing.verify(directory, trust, now=now, progress=progress, judge=broken, hold=hold)


def shipped(directory: Path, files: Iterable[Path]) -> str | None:
    """What is wrong with the first of ``files`` that lies in the release ``directory``, links followed; None if none does.

    Nothing that a release brings along is a reason to trust it: whoever made the one made the other.
    """
    for file in files:
        real = Path(os.path.realpath(file))
        if any(_same(place, directory) for place in (real, *real.parents)):
            return f"{file} lies in the release that it is to vouch for, and so proves nothing: have it from the publisher in another way"
    return None


def _same(path: Path, directory: Path) -> bool:
    """Also under another spelling, on a disk that ignores case."""
    try:
        return path.samefile(directory)
    except OSError:
        return False


def sources(store: TrustStore) -> list[Path]:
    """The directory from which ``store`` was read, and the trusted root that it goes by, where it has them."""
    root = [store.home / store.sigstore_root] if store.sigstore_root else []
    return [*([store.home] if store.home.is_absolute() else []), *root]


def broken(release: Verified) -> Iterator[Finding]:
    """Everything in which the publisher did not keep to the policy it had fixed, also in what it added to the release afterwards.

    A publisher is whoever signed the release, and whoever signed a claim that it requires. What others claim is their own affair.
    """
    claims = release.claims
    publishers = {_owner(claim) for claim in claims if claim.required and claim.role == "publisher"}
    publishers.add(_who(release.publisher, "publisher", release.identity, release.key_id))
    held = [claim for claim in claims if claim.required or _owner(claim) in publishers]
    for fixed in (claim.commitment.fixed for claim in held if claim.commitment):
        for claim in held:
            where = _NAMED.get(claim.predicate_type)
            if where and (about := _at(claim.predicate, where)) != fixed.sha256:
                what = f"the claim {claim.predicate_type} is about another policy than was fixed before"
                yield found("commitment-broken", names.CLAIMS, what, expected=fixed.sha256, actual=about)
        provenances = [claim for claim in held if claim.predicate_type == PROVENANCE]
        if not any(claim.required for claim in provenances):
            yield found("commitment-late", names.CLAIMS, "a policy was fixed, but no required claim says when the audit was begun")
        for time in (_at(claim.predicate, _STARTED) for claim in provenances):
            if not _not_before(time, fixed.time):
                what = "the policy was not fixed before the audit was begun"
                yield found("commitment-late", names.CLAIMS, what, expected=f"begun at {fixed.time} or later", actual=time)


def _owner(claim: Claim) -> tuple[str, str]:
    return _who(claim.publisher, claim.role, claim.identity, claim.key_id)


def _who(publisher: str, role: str, identity: TrustedIdentity | None, key_id: str) -> tuple[str, str]:
    """Whose word a signature is: that of whom the trust file names, with whatever key; of one without a name there, the identity's or
    the key's own."""
    return (publisher, role) if publisher else ("", identity.known_as if identity else key_id)


def _not_before(time: Json, fixed: datetime) -> bool:
    try:
        return read_time(time) >= fixed
    except ValueError:
        return False


def _at(value: Json, path: Sequence[str | int]) -> Json:
    """What stands in a claim at ``path``; None where there is nothing."""
    for step in path:
        if isinstance(step, str) and isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(step, int) and isinstance(value, list) and len(value) > step:
            value = value[step]
        else:
            return None
    return value
