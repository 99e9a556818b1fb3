"""``safeflux inspect``: what a release says of itself, for the eye. Judges nothing, and says so first and last."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from safeflux_cli.inspect_claims import by, details, reports, short

if TYPE_CHECKING:
    from safeflux_signing.unverified import Said, SaidSigner

SCHEMA = "safeflux-inspect/1"


@click.command("inspect", context_settings={"help_option_names": ["-h", "--help"]})  # also when not reached through ``safeflux``
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.pass_context
def inspect(ctx: click.Context, directory: Path, as_json: bool) -> None:
    """Show what the release DIRECTORY says of itself: who signed it, beside whom, its files, and what is claimed of it. NOTHING is
    checked: anybody could have written it.

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
        yield f"release   {short(release.release_id)}, sequence {release.sequence}, said to be signed {created}"
    yield from _signers(said)
    yield f"files     {len(listed)} in the manifest, {len(said.sizes)} there, {sum(said.sizes.values()):,} bytes"
    for name in sorted(listed.keys() | said.sizes.keys()):
        note = "" if name in listed and name in said.sizes else "  (not there)" if name in listed else "  (not in the manifest)"
        yield f"  {said.sizes.get(name, 0):>15,}  {short(name)}{note}"
    for claim in said.claims:
        how = "required" if claim.required else "added later"
        yield f"claim     {short(claim.predicate_type)} ({how}; {by(claim.signer)})"
        yield from (f"          {line}" for line in details(claim))
    for report in reports(said):
        concepts = short(", ".join(map(str, report["concepts"]))) or "no concepts"
        yield f"report    {report['name']} {report['version']}: says {report['verdict']}; erased: {concepts}"
        yield f"          {report['passed']} of {report['limited']} lines with a limit said to have passed"
    for trouble in said.troubles:
        yield f"trouble   {trouble}"


def _signers(said: Said) -> Iterator[str]:
    for what, signer in (("key", said.signer), *(("cosigner", one) for one in said.cosigners)):
        if signer is None or signer.identity is None:
            yield f"{what:9} {f'{short(signer.hint)} (a hint, not an identity)' if signer else 'none'}"
        else:
            yield f"{'identity' if what == 'key' else what:9} {by(signer)} (not checked)"


def _json(directory: Path, said: Said) -> dict[str, object]:
    signed, release = said.manifest, said.manifest and said.manifest.release
    return {
        "schema": SCHEMA,
        "directory": str(directory),
        "checked": False,
        **_signer_json(said.signer),
        "cosigners": [_signer_json(one) for one in said.cosigners],
        "release": release and {"id": release.release_id, "sequence": release.sequence, "created": f"{release.created:%Y-%m-%dT%H:%M:%SZ}"},
        "files": [{"name": one.name, "sha256": one.sha256, "size": said.sizes.get(one.name)} for one in (signed.entries if signed else ())],
        "there": [{"name": name, "size": size} for name, size in said.sizes.items()],
        "claims": [
            {
                "predicate_type": claim.predicate_type,
                "payload_sha256": claim.payload_sha256,
                "required": claim.required,
                **_signer_json(claim.signer),
                "digests": claim.digests,
                "predicate": claim.predicate,
            }
            for claim in said.claims
        ],
        "reports": list(reports(said)),
        "troubles": [{"file": one.file, "code": one.code, "message": one.what} for one in said.troubles],
    }


def _signer_json(signer: SaidSigner | None) -> dict[str, object]:
    """A key's hint, or whom a certificate names and who attested that; of the other, null."""
    identity = {"identity": signer.identity, "issuer": signer.issuer} if signer and signer.identity is not None else None
    return {"key_hint": signer.hint if signer else None, "identity": identity}


def _line(text: str) -> str:
    from safeflux_signing.errors import printable

    return printable(text)
