"""``safeflux verify``: is this directory what its publisher signed? Offline, and without torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from safeflux_cli.progress import Progress

if TYPE_CHECKING:
    from safeflux_signing.errors import Finding, SigningError
    from safeflux_signing.verify import Verified

SCHEMA = "safeflux-verify/1"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})  # also when not reached through ``safeflux``
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--key", "key_files", multiple=True, type=click.Path(path_type=Path), help="Public key (PEM) you trust; may be repeated.")
@click.option("--trust", "trust_file", type=click.Path(path_type=Path), help="Trust file [default: that of `safeflux keys`], if no --key.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing if all is well.")
@click.pass_context
def verify(ctx: click.Context, directory: Path, key_files: tuple[Path, ...], trust_file: Path | None, as_json: bool, quiet: bool) -> None:
    """Check signature, files and claims of the release DIRECTORY against keys you trust.

    Exit code: 0 verified; 10 files changed, added or removed; 11 signature missing or wrong; 12 no key given, or signed by
    one that is not trusted with it; 13 key revoked or not valid now, release revoked or older than one seen; 14 too few
    signatures, or a required claim is missing or about other files; 16 malformed or unsafe release; 2 wrong usage; 1 anything else.
    """
    from safeflux_signing import trustfile
    from safeflux_signing.errors import SigningError
    from safeflux_signing.verify import verify as check

    if key_files and trust_file:
        raise click.UsageError("Give --key or --trust, not both: a bare key is trusted with anything.")
    try:
        with _progress(as_json or quiet) as progress:
            verified = check(directory, trustfile.trusted(key_files, trust_file), progress=progress)
    except SigningError as error:
        if as_json:
            click.echo(json.dumps(_refused_json(directory, error), indent=2))
        else:
            _explain(directory, error)
        ctx.exit(error.exit_code)
    if as_json:
        click.echo(json.dumps(_verified_json(directory, verified), indent=2))
    elif not quiet:
        _praise(directory, verified)


@contextmanager
def _progress(silent: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Something to call with the bytes hashed so far and in all; None where nobody watches a terminal."""
    if silent or not sys.stderr.isatty():
        yield None
        return
    with Progress(sys.stderr) as bar:
        yield lambda done, total: bar("hashing (MB)", done // 10**6, max(total // 10**6, 1))


def _praise(directory: Path, verified: Verified) -> None:
    from safeflux_signing.errors import printable

    click.echo(f"verified: {printable(str(directory))}")
    if release := verified.release:
        click.echo(f"  release   {release.release_id}, sequence {release.sequence}, signed {release.created:%Y-%m-%d %H:%M:%S} UTC")
    click.echo(f"  files     {len(verified.entries)}, none changed, added or removed")
    for claim in verified.claims:
        click.echo(f"  claim     {printable(claim.predicate_type)}{'' if claim.required else ' (added later)'}")
    for number, key_id in enumerate((verified.key_id, *verified.cosigners)):
        whose = f" ({printable(verified.publisher)})" if verified.publisher and not number else ""
        click.echo(f"  key       {key_id}{whose}")


def _explain(directory: Path, error: SigningError) -> None:
    from safeflux_signing.errors import printable

    click.echo(f"NOT verified: {printable(str(directory))}", err=True)
    for finding in error.findings:
        click.echo(f"  {finding}", err=True)
        for label, value in (("expected", finding.expected), ("actual", finding.actual), ("to do", finding.remedy)):
            if value is not None:
                click.echo(f"      {label:9} {printable(value)}", err=True)


def _verified_json(directory: Path, verified: Verified) -> dict[str, object]:
    release = verified.release
    return {
        "schema": SCHEMA,
        "directory": str(directory),
        "verified": True,
        "exit_code": 0,
        "key": verified.key_id,
        "publisher": verified.publisher or None,
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
            }
            for claim in verified.claims
        ],
        "findings": [],
    }


def _refused_json(directory: Path, error: SigningError) -> dict[str, object]:
    """The same keys as for a verified release, and none of what an unverified one says of itself."""
    nothing: dict[str, object] = {"key": None, "publisher": None, "release": None, "digests": {}}
    nothing |= {"cosigners": [], "files": [], "claims": []}
    findings = [_finding_json(finding) for finding in error.findings]
    common = {"schema": SCHEMA, "directory": str(directory), "verified": False, "exit_code": error.exit_code}
    return {**common, **nothing, "findings": findings}


def _finding_json(finding: Finding) -> dict[str, object]:
    return {
        "file": finding.file,
        "code": finding.code,
        "message": finding.what,
        "expected": finding.expected,
        "actual": finding.actual,
        "remedy": finding.remedy,
    }
