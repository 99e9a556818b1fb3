"""What the claims of a release say, in lines: shown, not judged, and never longer than a person reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safeflux_signing.strictjson import Json
    from safeflux_signing.unverified import Said, SaidClaim, SaidSigner

LONGEST = 400  # characters of any one text
MANY = 60  # lines of any one claim


def by(signer: SaidSigner) -> str:
    """Who is said to have signed: a key by its hint, or whom a certificate names."""
    if signer.identity is None:
        return f"key hint {short(signer.hint)[:16]}"
    return f"certificate of {short(signer.identity)}" + (f", attested by {short(signer.issuer)}" if signer.issuer else "")


def details(claim: SaidClaim) -> Iterator[str]:
    """What is claimed, in at most ``MANY`` lines: of the kinds that are known what matters in them, of others all, cut short."""
    lines = _said(claim)
    yield from islice(lines, MANY)
    if next(lines, None) is not None:
        yield "... and more, which --json shows"


def _said(claim: SaidClaim) -> Iterator[str]:
    from safeflux.verify import ERASURE_REPORT
    from safeflux_signing import claims, commitments

    said = _mapping(claim.predicate)
    if claim.predicate_type == claims.PROVENANCE:
        yield from _provenance(said)
    elif claim.predicate_type == claims.TEST_RESULT:
        yield from _result(said)
    elif claim.predicate_type == commitments.PREDICATE_TYPE:
        earlier = said.get("earlier")
        after = f"; {len(earlier)} had been fixed before" if isinstance(earlier, list) and earlier else ""
        yield f"fixed {short(_mapping(claim.digests).get('sha256'))} at {short(said.get('time'))}{after}"
    elif claim.predicate_type != ERASURE_REPORT:  # of which the headline is shown apart
        yield short(claim.predicate)


def _provenance(said: Mapping[str, Json]) -> Iterator[str]:
    definition, builder = _mapping(said.get("buildDefinition")), _mapping(_mapping(said.get("runDetails")).get("builder"))
    yield f"made by {short(builder.get('id'))} as {short(definition.get('buildType'))}"
    for one in _objects(definition.get("resolvedDependencies")):
        yield f"from    {short(one.get('name'))}: {short(one.get('uri'))} {short(one.get('digest'))}"
    for name in ("externalParameters", "internalParameters"):
        for key, value in _mapping(definition.get(name)).items():
            yield f"with    {short(key)} = {short(value)}"
    if builder.get("version"):
        yield f"tools   {short(builder['version'])}"


def _result(said: Mapping[str, Json]) -> Iterator[str]:
    tests = {word: said.get(f"{word}Tests") for word in ("passed", "warned", "failed")}
    counts = ", ".join(f"{len(names) if isinstance(names, list) else '?'} {word}" for word, names in tests.items())
    yield f"says {short(said.get('result'))}: {counts}"
    for word in ("failed", "warned"):
        names = tests[word]
        yield from (f"{word}  {short(name)}" for name in (names if isinstance(names, list) else ()))


def reports(said: Said) -> Iterator[dict[str, Any]]:
    """The headline of each erasure report, whatever is missing from it."""
    from safeflux.verify import ERASURE_REPORT

    for claim in said.claims:
        if claim.predicate_type == ERASURE_REPORT:
            report = _mapping(claim.predicate)
            limited = [line for line in _objects(report.get("findings")) if line.get("model") == "erased" and line.get("limit") is not None]
            texts = {name: short(report.get(name)) for name in ("name", "version", "verdict")}
            concepts = report.get("concepts")
            passed = sum(line.get("status") == "passed" for line in limited)
            names = [short(one) for one in concepts] if isinstance(concepts, list) else []
            yield {**texts, "concepts": names, "limited": len(limited), "passed": passed}


def short(value: Json) -> str:
    text = value if isinstance(value, str) else "?" if value is None else json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def _objects(value: Json) -> Iterator[Mapping[str, Json]]:
    yield from (one for one in value if isinstance(one, dict)) if isinstance(value, list) else ()
