"""``safeflux verify``: is this directory what its publisher signed, and what its user requires? Offline, and without torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from safeflux_cli import keyfiles
from safeflux_cli import verify_output as say
from safeflux_cli.keyfiles import key_name, load_private, passphrase_options, read_passphrase

if TYPE_CHECKING:
    from safeflux_signing.errors import Finding
    from safeflux_signing.keynames import KeyName
    from safeflux_signing.requirements import Lines, Requirement
    from safeflux_signing.signers import SigningKey
    from safeflux_signing.trust import TrustStore
    from safeflux_signing.verify import Verified

VERIFIER = "urn:safeflux:verify"
POLICY = "urn:safeflux:verify-policy:v1"
FILE = click.Path(path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})  # also when not reached through ``safeflux``
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--key", "key_files", multiple=True, type=FILE, help="Public key (PEM) you trust; may be repeated.")
@click.option("--trust", "trust_file", type=FILE, metavar="F", help="Trust file [default: that of `safeflux keys`], if no --key.")
@click.option(
    "--require",
    "required",
    multiple=True,
    metavar="WHAT",
    help="Require more: a claim (commitment, provenance, test-result, erasure-report or a predicate type), one by an auditor "
    "(test-result@auditor), max-age=90d, or a limit on a metric of the signed reports (detection<=0.05, retained>=0.9), kept by the bound "
    "of each of their lines. May be repeated. A claim has to be there, whatever it says: a test-result of FAILED will do; for good "
    "numbers ask for limits.",
)
@click.option("--emit-vsa", type=FILE, metavar="F", help="If all is well, write a SLSA verification summary to the new file F.")
@click.option("--vsa-key", type=key_name, metavar="F", help="Private key to sign the summary with; without one it is not signed.")
@passphrase_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing if all is well.")
@click.pass_context
def verify(
    ctx: click.Context, /, directory: Path, key_files: tuple[Path, ...], trust_file: Path | None, required: tuple[str, ...],
    emit_vsa: Path | None, vsa_key: KeyName | None, as_json: bool, quiet: bool, **passphrase: Any,
) -> None:  # fmt: skip
    """Check signature, files and claims of the release DIRECTORY against keys you trust.

    Exit code: 0 verified; 10 files changed, added or removed; 11 signature missing or wrong; 12 no key given, or signed by
    one that is not trusted with it; 13 key revoked or not valid now, release revoked, too old or older than one seen; 14 too few
    signatures, or a claim is missing or about other files; 15 the signed report does not keep a limit that was required;
    16 malformed or unsafe release; 2 wrong usage; 1 an error of the program's own, which says nothing about the release.
    """
    from safeflux.verify import sources
    from safeflux.verify import verify as check
    from safeflux_signing import trustfile
    from safeflux_signing.errors import SigningError

    met: dict[str, bool | None] = dict.fromkeys(required)
    verified: Verified | None = None
    with _defects_told(ctx, directory, met, as_json):
        _check_usage(directory, key_files, trust_file, required, emit_vsa, vsa_key)
        try:
            requirements = _requirements(required)
            trusted = trustfile.trusted(key_files, trust_file)
            keyfiles.refuse_shipped(directory, [*key_files, *sources(trusted)])
            signer = load_private(vsa_key, read_passphrase(**passphrase)) if vsa_key else None
            now = _now()

            def hold(good: Verified) -> Sequence[Finding]:
                nonlocal verified
                if findings := _short(good, requirements, now, met):
                    verified = good
                return findings

            with _progress(as_json or quiet) as progress:
                verified = check(directory, trusted, progress=progress, hold=hold)
            if emit_vsa:
                _write_summary(emit_vsa, directory, verified, trusted, required, now, signer)
        except SigningError as error:
            say.refused(directory, error, verified, met, as_json)
            ctx.exit(error.exit_code)
        if as_json or not quiet:
            say.accepted(directory, verified, met, as_json)


@contextmanager
def _defects_told(ctx: click.Context, directory: Path, met: say.Met, as_json: bool) -> Iterator[None]:
    """Whatever is raised within and is no answer leaves with 1, the exit code of no verdict."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise
    except Exception as error:
        say.crashed(directory, error, met, as_json)
        ctx.exit(1)


def _check_usage(
    directory: Path,
    key_files: Sequence[Path],
    trust_file: Path | None,
    required: Sequence[str],
    emit_vsa: Path | None,
    vsa_key: KeyName | None,
) -> None:
    if key_files and trust_file:
        raise click.UsageError("Give --key or --trust, not both: a bare key is trusted with anything.")
    if key_files and any(text.endswith("@auditor") for text in required):
        raise click.UsageError("--require ...@auditor needs a trust file: a bare --key has no role.")
    if vsa_key and not emit_vsa:
        raise click.UsageError("--vsa-key signs what --emit-vsa writes; give both.")
    if emit_vsa and emit_vsa.exists():
        raise click.UsageError(f"{emit_vsa} exists already; a summary never replaces another one.")
    if emit_vsa and emit_vsa.resolve().is_relative_to(directory.resolve()):
        raise click.UsageError(f"{emit_vsa} lies in the release, which would make it a file that nobody signed.")


def _requirements(texts: Sequence[str]) -> list[Requirement]:
    if not texts:
        return []
    from safeflux_signing import claims, commitments, requirements

    short = {
        "commitment": commitments.PREDICATE_TYPE,
        "provenance": claims.PROVENANCE,
        "test-result": claims.TEST_RESULT,
        "erasure-report": _report_lines().predicate_type,
    }
    return [requirements.parse(text, short) for text in texts]


def _report_lines() -> Lines:
    """Where an erasure report keeps what was measured, for a package that knows nothing of such reports."""
    from safeflux.verify import ERASURE_REPORT
    from safeflux_signing.requirements import Lines

    return Lines(
        ERASURE_REPORT,
        lines="findings",
        metric="metric",
        value="value",
        bound="bound",
        about=("concept", "attack", "metric"),
        counted={"model": "erased"},
        void={"status": "unchecked"},
    )


def _short(verified: Verified, requirements: Sequence[Requirement], now: datetime, met: dict[str, bool | None]) -> list[Finding]:
    """Everything in which the release falls short; ``met`` is filled in."""
    if not requirements:
        return []
    from safeflux_signing.requirements import check

    short = {one.text: check(one, verified, _report_lines(), now) for one in requirements}
    met.update({text: not findings for text, findings in short.items()})
    return [finding for findings in short.values() for finding in findings]


def _write_summary(
    file: Path,
    directory: Path,
    verified: Verified,
    trusted: TrustStore,
    required: Sequence[str],
    now: datetime,
    signer: SigningKey | None,
) -> None:
    from urllib.parse import quote

    from safeflux.plan import version
    from safeflux_signing import vsa

    release = verified.release
    payload = vsa.statement(
        verified,
        subject=directory.resolve().name or "model",
        resource=f"urn:safeflux:release:{quote(release.release_id, safe='')}"
        if release
        else f"urn:dirhash1:{verified.digests['dirHash1']}",
        verifier=VERIFIER,
        versions={"safeflux": version()},
        policy=POLICY,
        trusted=[*(entry.key_id for entry in trusted.entries), *(f"{one.identity} by {one.issuer}" for one in trusted.identities)],
        required=required,
        now=now,
    )
    try:
        with file.open("xb") as stream:
            stream.write(vsa.signed(payload, signer) if signer else payload + b"\n")
    except OSError as error:
        raise click.UsageError(f"Cannot write {file}: {error.strerror}") from error


def _now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def _progress(silent: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Something to call with the bytes hashed so far and in all; None where nobody watches a terminal."""
    if silent or not sys.stderr.isatty():
        yield None
        return
    from safeflux_cli.progress import Progress

    with Progress(sys.stderr) as bar:
        yield lambda done, total: bar("hashing (MB)", -(-done // 10**6), -(-total // 10**6))  # rounded up, so that the end is the end
