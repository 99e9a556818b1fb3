"""``safeflux inspect``: what a release says of itself, for the eye. Judges nothing, and says so first and last."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from safeflux_signing.strictjson import Json
    from safeflux_signing.unverified import Said

SCHEMA = "safeflux-inspect/1"
LONGEST = 200  # characters of any one text


@click.command("inspect", context_settings={"help_option_names": ["-h", "--help"]})  # also when not reached through ``safeflux``
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.pass_context
def inspect(ctx: click.Context, directory: Path, as_json: bool) -> None:
    """Show what the release DIRECTORY says of itself. NOTHING is checked: anybody could have written it.

    Exit code: 0, also for what `safeflux verify` would refuse; 2 wrong usage or an unreadable directory.
    """
    from safeflux_signing.errors import SigningError
    from safeflux_signing.unverified import look

    try:
        said = look(directory)
    except SigningError as error:
        click.echo(f"Error: {error}", err=True)
        ctx.exit(error.exit_code)
    if as_json:
        click.echo(json.dumps(_json(directory, said), indent=2))
        return
    warning = f"NOTHING HERE WAS CHECKED. It is what the directory says of itself. To check it: safeflux verify {directory} --key PUB"
    for line in (warning, "", *_lines(said), "", warning):
        click.echo(_line(line))


def _lines(said: Said) -> Iterator[str]:
    listed = {} if said.manifest is None else {entry.name: entry.sha256 for entry in said.manifest.entries}
    if said.manifest and (release := said.manifest.release):
        created = f"{release.created:%Y-%m-%d %H:%M:%S} UTC"
        yield f"release   {_short(release.release_id)}, sequence {release.sequence}, said to be signed {created}"
    yield f"key       {_short(said.hint) if said.hint else 'none'}" + (" (a hint, not an identity)" if said.hint else "")
    yield f"files     {len(listed)} in the manifest, {len(said.sizes)} there, {sum(said.sizes.values()):,} bytes"
    for name in sorted(listed.keys() | said.sizes.keys()):
        note = "" if name in listed and name in said.sizes else "  (not there)" if name in listed else "  (not in the manifest)"
        yield f"  {said.sizes.get(name, 0):>15,}  {_short(name)}{note}"
    for claim in said.claims:
        how = "required" if claim.required else "added later"
        yield f"claim     {_short(claim.predicate_type)} ({how}; key hint {_short(claim.hint)[:16]})"
    for report in _reports(said):
        concepts = ", ".join(map(str, report["concepts"])) or "no concepts"
        yield f"report    {report['name']} {report['version']}: says {report['verdict']}; erased: {concepts}"
        yield f"          {report['passed']} of {report['limited']} lines with a limit said to have passed"
    for trouble in said.troubles:
        yield f"trouble   {trouble}"


def _json(directory: Path, said: Said) -> dict[str, object]:
    signed, release = said.manifest, said.manifest and said.manifest.release
    return {
        "schema": SCHEMA,
        "directory": str(directory),
        "checked": False,
        "key_hint": said.hint,
        "release": release and {"id": release.release_id, "sequence": release.sequence, "created": f"{release.created:%Y-%m-%dT%H:%M:%SZ}"},
        "files": [{"name": one.name, "sha256": one.sha256, "size": said.sizes.get(one.name)} for one in (signed.entries if signed else ())],
        "there": [{"name": name, "size": size} for name, size in said.sizes.items()],
        "claims": [
            {
                "predicate_type": claim.predicate_type,
                "payload_sha256": claim.payload_sha256,
                "required": claim.required,
                "key_hint": claim.hint,
            }
            for claim in said.claims
        ],
        "reports": list(_reports(said)),
        "troubles": [{"file": one.file, "code": one.code, "message": one.what} for one in said.troubles],
    }


def _reports(said: Said) -> Iterator[dict[str, Any]]:
    """The headline of each erasure report, whatever is missing from it."""
    from safeflux.verify import ERASURE_REPORT

    for claim in said.claims:
        if claim.predicate_type == ERASURE_REPORT:
            report = claim.predicate if isinstance(claim.predicate, dict) else {}
            limited = [line for line in _objects(report.get("findings")) if line.get("model") == "erased" and line.get("limit") is not None]
            texts = {name: _short(report.get(name)) for name in ("name", "version", "verdict")}
            concepts = report.get("concepts")
            passed = sum(line.get("status") == "passed" for line in limited)
            names = [_short(one) for one in concepts] if isinstance(concepts, list) else []
            yield {**texts, "concepts": names, "limited": len(limited), "passed": passed}


def _objects(value: Json) -> Iterator[Mapping[str, Json]]:
    yield from (one for one in value if isinstance(one, dict)) if isinstance(value, list) else ()


def _short(value: Json) -> str:
    text = value if isinstance(value, str) else "?" if value is None else json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _line(text: str) -> str:
    from safeflux_signing.errors import printable

    return printable(text)
