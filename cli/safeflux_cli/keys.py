"""``safeflux keys``: make a signing key, say which key a file holds, and keep the list of keys that are trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from safeflux_cli import keyfiles, keys_trust
from safeflux_cli.keyfiles import passphrase_options, read_passphrase, refusing

if TYPE_CHECKING:
    from safeflux_signing.keynames import KeyName
    from safeflux_signing.keys import PublicKey

KINDS = ("p256", "p384", "p521", "ed25519", "ml-dsa-65")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})  # also when not reached through ``safeflux``
def keys() -> None:
    """Make and show signing keys, and keep the trust file: whose signatures count, and for what.

    The trust file is $SAFEFLUX_TRUST, else safeflux/trust.toml in $XDG_CONFIG_HOME or ~/.config.
    """


for command in (keys_trust.trust, keys_trust.untrust, keys_trust.revoke, keys_trust.rotate, keys_trust.apply, keys_trust.cosign):
    keys.add_command(command)


@keys.command(short_help="Make a signing key.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(KINDS), default="p256", show_default=True, help="Kind of key; see above.")
@passphrase_options
@click.option("--no-passphrase", is_flag=True, help="Leave the private key unencrypted.")
@click.pass_context
def new(
    ctx: click.Context,
    path: Path,
    kind: str,
    passphrase_file: Path | None,
    passphrase_env: str | None,
    passphrase_fd: int | None,
    no_passphrase: bool,
) -> None:
    """Make a signing key: the private half at PATH, the public half beside it, ending in .pub.

    Nothing is ever overwritten. Keep the private half to yourself; give the public half to whoever is to verify.

    The stock OpenSSF tool, model_signing, verifies signatures by p256, p384 and p521 (ECDSA). Those by ed25519, and by ml-dsa-65
    (which no quantum computer is known to break), are verified by safeflux only.
    """
    from safeflux_signing import keys as library

    given = [way for way in (passphrase_file, passphrase_env, passphrase_fd) if way is not None]
    if len(given) + no_passphrase > 1:
        raise click.UsageError("Give one passphrase option only.")
    passphrase = read_passphrase(passphrase_file, passphrase_env, passphrase_fd)
    if passphrase is None and not no_passphrase:
        if not keyfiles.asking():
            raise click.UsageError("No passphrase: give --passphrase-file, --passphrase-env or --passphrase-fd, or --no-passphrase.")
        passphrase = str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)).encode("utf-8")
    with refusing(ctx):
        public_path = library.new(path, passphrase, kind)
        public = library.load_public(public_path)
    click.echo(f"private key  {path} ({'unencrypted' if passphrase is None else 'encrypted'})")
    click.echo(f"public key   {public_path}")
    click.echo(f"key id       {library.key_id(public)}")
    if not library.KINDS[kind].stock:
        click.echo("The stock OpenSSF tool, model_signing, cannot verify what this key signs; safeflux can.", err=True)


@keys.command(short_help="Say the id and type of the public or private key in PATH.")
@click.argument("path", type=keyfiles.key_name)
@passphrase_options
@click.pass_context
def show(ctx: click.Context, path: KeyName, passphrase_file: Path | None, passphrase_env: str | None, passphrase_fd: int | None) -> None:
    """Say the id and type of the public or private key in PATH, or of a token's (pkcs11:token=...;object=...)."""
    from safeflux_signing import keys as library

    with refusing(ctx):
        public, half = _public_half(path, read_passphrase(passphrase_file, passphrase_env, passphrase_fd))
    click.echo(f"key id  {library.key_id(public)}")
    click.echo(f"type    {library.kind(public).in_words}, {half} half")


@keys.command(short_help="Print the public half of the key in PATH, as PEM.")
@click.argument("path", type=keyfiles.key_name)
@passphrase_options
@click.pass_context
def export(ctx: click.Context, path: KeyName, passphrase_file: Path | None, passphrase_env: str | None, passphrase_fd: int | None) -> None:
    """Print the public half of the key in PATH, or of a token's (pkcs11:token=...;object=...), as PEM."""
    from safeflux_signing import keys as library

    with refusing(ctx):
        public, _ = _public_half(path, read_passphrase(passphrase_file, passphrase_env, passphrase_fd))
    click.echo(library.public_pem(public).decode("ascii"), nl=False)


def _public_half(path: KeyName, passphrase: bytes | None) -> tuple[PublicKey, str]:
    """The public half of the key in ``path``, and which half that file or token holds."""
    from safeflux_signing import keys as library
    from safeflux_signing.errors import InputError

    try:
        if isinstance(path, Path):
            return library.load_public(path), "public"
    except InputError as error:
        if error.findings[0].code != "key-private":
            raise
    return keyfiles.load_private(path, passphrase).public_key(), "private"
