"""``safeflux claim``: what somebody else than the publisher found out about a release, signed and put beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from safeflux_cli.keyfiles import key_name, load_signer, passphrase_options, read_passphrase, refusing, signed_by_option, signers_of

if TYPE_CHECKING:
    from safeflux_signing.keynames import KeyName
    from safeflux_signing.signers import AnySigner

FILE = click.Path(path_type=Path)
MAX_BYTES = 16 << 20


@click.command(context_settings={"help_option_names": ["-h", "--help"]})  # also when not reached through ``safeflux``
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("predicate", type=FILE)
@click.option("--type", "kind", required=True, metavar="TYPE", help="What it says: test-result, erasure-report, or a predicate type (URI).")
@click.option(
    "--key",
    required=True,
    type=key_name,
    metavar="PRIVATE",
    help="Private key to sign with: PEM file, pkcs11:... (RFC 7512), exec:... or sigstore:",
)
@signed_by_option
@passphrase_options
@click.pass_context
def claim(
    ctx: click.Context,
    directory: Path,
    predicate: Path,
    kind: str,
    key: KeyName,
    signers: tuple[Path, ...],
    passphrase_file: Path | None,
    passphrase_env: str | None,
    passphrase_fd: int | None,
) -> None:
    """Sign what PREDICATE (a JSON file) says about the release DIRECTORY, after verifying it, and add it to its claims.

    The publisher's signature stays as it is. Who verifies the release must trust your key (`safeflux keys trust --role auditor`), and
    asks for the claim with `safeflux verify --require TYPE@auditor`: nobody else would notice if it were taken away again.
    """
    from safeflux.verify import ERASURE_REPORT
    from safeflux_signing import sign, smallfiles, strictjson
    from safeflux_signing.claims import TEST_RESULT

    short = {"test-result": TEST_RESULT, "erasure-report": ERASURE_REPORT}
    if kind not in short and ":" not in kind:
        raise click.BadParameter(f"{kind!r} is none of {', '.join(short)}, and no predicate type (a URI).", param_hint="--type")
    with refusing(ctx):
        said = strictjson.loads(smallfiles.read(predicate, MAX_BYTES, "predicate-unreadable"), str(predicate))
        signer = load_signer(key, read_passphrase(passphrase_file, passphrase_env, passphrase_fd))
        written = sign.add_claim(directory, signer, signers_of(directory, signers), (short.get(kind, kind), said))
    click.echo(f"claimed  {short.get(kind, kind)}")
    click.echo(f"in       {written}, {_how(directory, signer)}")


def _how(directory: Path, signer: AnySigner) -> str:
    """With which key the last claim is signed, or under whose certificate."""
    from safeflux_cli.inspect_claims import by
    from safeflux_signing import signers, unverified

    if isinstance(signer, signers.Certified):
        return f"under a {by(unverified.look(directory).claims[-1].signer)}"
    return f"with key {signers.ident(signer)}"
