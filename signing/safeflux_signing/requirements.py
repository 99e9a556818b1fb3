"""What a user asks of a release beyond a good signature: that certain claims are there, its age, limits on what was measured.

    provenance                 a claim with this predicate type, by a short name that the caller knows or in full
    test-result@auditor        the same, signed by a key that has this role in the trust file
    max-age=90d                signed no longer ago than this; d: days, h: hours
    detection<=0.05            every measured line of this metric keeps the limit; also >=

A limit is held against a claim whose JSON the caller describes (``Lines``): this package knows no metric and no report.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from safeflux_signing import names
from safeflux_signing.errors import Finding, found, refusal
from safeflux_signing.strictjson import Json
from safeflux_signing.trust import ROLES, Role
from safeflux_signing.verify import Verified

CLOCKS = timedelta(minutes=10)  # how far apart the clocks of signer and user may be

_AGE = re.compile(r"max-age=([0-9]{1,5})([dh])")
_LIMIT = re.compile(r"([a-z][a-z0-9-]{0,63})(<=|>=)([0-9]{1,9}(?:\.[0-9]{1,12})?)")
_TYPE = re.compile(r"[a-z][a-z0-9+.-]*:[!-~]{1,300}")


@dataclass(frozen=True)
class Needed:
    """A claim of this predicate type must be there, signed by a trusted key, with this role if one is named.

    What it says is not looked at.
    """

    text: str
    predicate_type: str
    role: Role | None = None


@dataclass(frozen=True)
class MaxAge:
    text: str
    age: timedelta


@dataclass(frozen=True)
class Limit:
    """Every line of ``metric`` must be at most ``value`` (``ceiling``), or at least."""

    text: str
    metric: str
    ceiling: bool
    value: float


Requirement = Needed | MaxAge | Limit


@dataclass(frozen=True)
class Lines:
    """Where a kind of claim keeps what was measured.

    The predicate's field ``lines`` is a list of objects. Those that have all of ``counted`` count. Of each, the field
    ``metric`` names what was measured, ``value`` the number, and ``bound`` a statistical bound on it, null if there is none;
    the fields ``about`` tell a person which line it is. Lines that have all of ``void`` keep no limit, whatever their numbers.
    """

    predicate_type: str
    lines: str
    metric: str
    value: str
    bound: str
    about: tuple[str, ...]
    counted: Mapping[str, Json]
    void: Mapping[str, Json]


def parse(text: str, short: Mapping[str, str]) -> Requirement:
    """The requirement that ``text`` states; ``short`` gives predicate types by short name. Raises InputError (requirement)."""
    for role in ROLES:
        claim = text.removesuffix(f"@{role}")
        if claim != text and (claim in short or _TYPE.fullmatch(claim)):
            return Needed(text, short.get(claim, claim), role)
    if text in short:
        return Needed(text, short[text])
    if age := _AGE.fullmatch(text):
        return MaxAge(text, timedelta(**{"days" if age[2] == "d" else "hours": int(age[1])}))
    if limit := _LIMIT.fullmatch(text):
        return Limit(text, limit[1], limit[2] == "<=", float(limit[3]))
    if _TYPE.fullmatch(text):
        return Needed(text, text)
    wanted = f"{', '.join(sorted(short))}, a predicate type (URI), either of them with @auditor behind it, max-age=90d, or METRIC<=0.05"
    raise refusal("requirement", text, "not a requirement", expected=wanted)


def check(requirement: Requirement, verified: Verified, lines: Lines, now: datetime) -> list[Finding]:
    """Everything in which the release falls short of ``requirement`` at the time ``now``; empty if it is met."""
    match requirement:
        case Needed():
            return _missing(requirement, verified)
        case MaxAge():
            return list(_age(requirement, verified, now))
        case Limit():
            reports = [claim.predicate for claim in verified.claims if claim.predicate_type == lines.predicate_type]
            missing = _missing(Needed(requirement.text, lines.predicate_type), verified)
            return missing or list(_limit(requirement, reports, lines))


def _missing(needed: Needed, verified: Verified) -> list[Finding]:
    if any(claim.predicate_type == needed.predicate_type and needed.role in (None, claim.role) for claim in verified.claims):
        return []
    there = ", ".join(sorted({_by(claim.predicate_type, claim.role if needed.role else None) for claim in verified.claims})) or "no claims"
    wanted = _by(needed.predicate_type, needed.role)
    return [found("claim-wanted", names.CLAIMS, f"{needed.text}: there is no such claim", expected=wanted, actual=there)]


def _by(predicate_type: str, role: str | None) -> str:
    return f"{predicate_type} by {role}" if role else predicate_type


def _age(requirement: MaxAge, verified: Verified, now: datetime) -> Iterator[Finding]:
    said = verified.release.created if verified.release else None
    if said is None:
        yield found("release-undated", names.SIGNATURE, f"{requirement.text}: the signature does not say when it was made")
    elif said > now + CLOCKS:
        yield found("release-undated", names.SIGNATURE, f"{requirement.text}: signed in the future", expected=f"by {now}", actual=said)
    elif now - said > requirement.age:
        oldest = f"{now - requirement.age:%Y-%m-%d %H:%M} UTC or later"
        yield found(
            "release-old", names.SIGNATURE, f"{requirement.text}: signed too long ago", expected=oldest, actual=f"{said:%Y-%m-%d %H:%M} UTC"
        )


def _limit(limit: Limit, reports: Sequence[Json], lines: Lines) -> Iterator[Finding]:
    """The lines of all reports, whoever signed them, that do not keep the limit; if none has any for the metric, that."""
    listed = [report.get(lines.lines) for report in reports if isinstance(report, dict)]
    every = [line for report in listed if isinstance(report, list) for line in report if isinstance(line, dict)]
    counted = [line for line in every if line.get(lines.metric) == limit.metric and _has(line, lines.counted)]
    if not counted:
        measured = ", ".join(sorted({str(line.get(lines.metric)) for line in every if _has(line, lines.counted)}))
        yield found("limit-unmeasured", names.CLAIMS, f"{limit.text}: not measured", expected=limit.metric, actual=measured)
    for line in counted:
        about = "/".join(str(line[name]) for name in lines.about if line.get(name) is not None)
        shown = _shown(line, lines, limit.ceiling)
        if shown is None or _has(line, lines.void):
            yield found("limit-unmeasured", names.CLAIMS, f"{limit.text}: a line says nothing: {about}")
        elif not (shown <= limit.value if limit.ceiling else shown >= limit.value):
            wanted = f"{'at most' if limit.ceiling else 'at least'} {limit.value:g}"
            yield found("limit-missed", names.CLAIMS, f"{limit.text}: {about}", expected=wanted, actual=shown)


def _shown(line: Mapping[str, Json], lines: Lines, ceiling: bool) -> int | float | None:
    """The number a limit is held against: of value and bound the worse one, since a bound may be meant for the other side."""
    value, bound = (line.get(name) for name in (lines.value, lines.bound))
    numbers = [number for number in (value, bound) if isinstance(number, int | float) and not isinstance(number, bool)]
    if value is None or len(numbers) < 2 - (bound is None):
        return None
    return (max if ceiling else min)(numbers)


def _has(line: Mapping[str, Json], fields: Mapping[str, Json]) -> bool:
    return all(name in line and line[name] == value for name, value in fields.items())
