"""What ``safeflux verify`` says: lines for people, one JSON object for machines (``verify.schema.json`` describes it)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from safeflux_signing.claims import Claim
    from safeflux_signing.commitments import Commitment
    from safeflux_signing.errors import Finding, SigningError
    from safeflux_signing.trust import TrustedIdentity
    from safeflux_signing.verify import Verified

SCHEMA = "safeflux-verify/1"
INTERNAL = "internal-error"  # the code of what is no reason to refuse anything, and so not among those of safeflux_signing.reasons

Met = Mapping[str, bool | None]
"""Whether each requirement, by its text, is met; None if the release did not get so far."""


def accepted(directory: Path, verified: Verified, met: Met, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_accepted_json(directory, verified, met), indent=2))
    else:
        _praise(directory, verified, met)


def refused(directory: Path, error: SigningError, verified: Verified | None, met: Met, as_json: bool) -> None:
    """``verified``: the release is what its publisher signed, only not what was required."""
    if as_json:
        click.echo(json.dumps(_refused_json(directory, error, met), indent=2))
    else:
        _explain(directory, error, verified)


def crashed(directory: Path, error: Exception, met: Met, as_json: bool) -> None:
    """A defect of this program, which says nothing about the release: one line, and with ``as_json`` an object as for a refusal."""
    from safeflux_cli.main import tell
    from safeflux_signing.errors import LONGEST, Finding, SigningError, printable

    what = printable(f"{type(error).__name__}: {error}"[:LONGEST])
    tell(error, f"internal error, the release was not judged: {what}")
    if as_json:
        remedy = "This says nothing about the release: report it, with what SAFEFLUX_TRACEBACK=1 makes this command print."
        refused(directory, SigningError([Finding(".", INTERNAL, what, None, None, remedy)]), None, met, as_json)


def _praise(directory: Path, verified: Verified, required: Iterable[str]) -> None:
    from safeflux_signing.errors import printable

    click.echo(f"verified: {printable(str(directory))}")
    if release := verified.release:
        click.echo(f"  release   {release.release_id}, sequence {release.sequence}, signed {release.created:%Y-%m-%d %H:%M:%S} UTC")
    click.echo(f"  files     {len(verified.entries)}, none changed, added or removed")
    for claim in verified.claims:
        click.echo(f"  claim     {printable(_claim(claim))}")
    for text in required:
        click.echo(f"  required  {printable(text)}")
    if signer := verified.identity:
        click.echo(f"  identity  {printable(signer.identity)}, attested by {printable(signer.issuer)}")
    for number, key_id in enumerate((verified.key_id, *verified.cosigners)):
        whose = f" ({printable(verified.publisher)})" if verified.publisher and not number else ""
        click.echo(f"  key       {key_id}{whose}")


def _claim(claim: Claim) -> str:
    """What it is; of the publisher's commitment what was fixed and when, of any that was added later also by whom."""
    if claim.commitment:
        fixed, earlier = claim.commitment.fixed, len(claim.commitment.earlier)
        after = f"; after audits under {earlier} other{'s' if earlier > 1 else ''}" if earlier else ""
        logged = f", logged {claim.logged:%Y-%m-%d %H:%M:%S} UTC" if claim.logged else ""
        return f"{claim.predicate_type} ({claim.commitment.name}, fixed {fixed.time:%Y-%m-%d %H:%M:%S} UTC{logged}{after})"
    if claim.required:
        return claim.predicate_type
    whose = f"{claim.publisher}, {claim.role}" if claim.publisher else f"key {claim.key_id}"
    return f"{claim.predicate_type} (added later by {whose})"


def _explain(directory: Path, error: SigningError, verified: Verified | None) -> None:
    from safeflux_signing.errors import printable

    name = printable(str(directory))
    click.echo(f"NOT what was required: {name} (signature, files and claims are good)" if verified else f"NOT verified: {name}", err=True)
    for finding in error.findings:
        click.echo(f"  {finding}", err=True)
        for label, value in (("expected", finding.expected), ("actual", finding.actual), ("to do", finding.remedy)):
            if value is not None:
                click.echo(f"      {label:9} {printable(value)}", err=True)


def _accepted_json(directory: Path, verified: Verified, met: Met) -> dict[str, object]:
    release = verified.release
    return {
        "schema": SCHEMA,
        "directory": str(directory),
        "verified": True,
        "exit_code": 0,
        "key": verified.key_id,
        "publisher": verified.publisher or None,
        "identity": verified.identity and _identity_json(verified.identity),
        "cosigners": list(verified.cosigners),
        "release": release and {"id": release.release_id, "sequence": release.sequence, "created": f"{release.created:%Y-%m-%dT%H:%M:%SZ}"},
        "digests": dict(verified.digests),
        "files": [{"name": entry.name, "sha256": entry.sha256} for entry in verified.entries],
        "claims": [
            {
                "predicate_type": claim.predicate_type,
                "payload_sha256": claim.payload_sha256,
                "required": claim.required,
                "key": claim.key_id,
                "publisher": claim.publisher or None,
                "role": claim.role,
                "commitment": claim.commitment and _commitment_json(claim.commitment),
                **_certified_json(claim),
            }
            for claim in verified.claims
        ],
        "requirements": _met_json(met),
        "findings": [],
    }


def _refused_json(directory: Path, error: SigningError, met: Met) -> dict[str, object]:
    """The same keys as for a verified release, and none of what a refused one says of itself."""
    nothing: dict[str, object] = {"key": None, "publisher": None, "identity": None, "release": None, "digests": {}}
    nothing |= {"cosigners": [], "files": [], "claims": []}
    findings = [_finding_json(finding) for finding in error.findings]
    common = {"schema": SCHEMA, "directory": str(directory), "verified": False, "exit_code": error.exit_code}
    return {**common, **nothing, "requirements": _met_json(met), "findings": findings}


def _identity_json(identity: TrustedIdentity) -> dict[str, object]:
    return {"identity": identity.identity, "issuer": identity.issuer}


def _certified_json(claim: Claim) -> dict[str, object]:
    """What there is to say only of a claim under a certificate."""
    from safeflux_signing.strictjson import write_time

    if claim.identity is None:
        return {}
    return {"identity": _identity_json(claim.identity), "logged": claim.logged and write_time(claim.logged)}


def _commitment_json(commitment: Commitment) -> dict[str, object]:
    from safeflux_signing.strictjson import write_time

    fixed, *earlier = ({"sha256": one.sha256, "time": write_time(one.time)} for one in (commitment.fixed, *commitment.earlier))
    return {"name": commitment.name, **fixed, "earlier": earlier}


def _met_json(met: Met) -> list[dict[str, object]]:
    return [{"require": text, "met": is_met} for text, is_met in met.items()]


def _finding_json(finding: Finding) -> dict[str, object]:
    return {
        "file": finding.file,
        "code": finding.code,
        "message": finding.what,
        "expected": finding.expected,
        "actual": finding.actual,
        "remedy": finding.remedy,
    }
