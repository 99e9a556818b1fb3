"""``safeflux keys``: make a signing key, and say which key a file holds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from safeflux_signing.errors import SigningError
    from safeflux_signing.keys import PrivateKey


HELP = {"help_option_names": ["-h", "--help"]}  # also when the command is not reached through ``safeflux``


@click.group(context_settings=HELP)
def keys() -> None:
    """Make and inspect signing keys."""


def passphrase_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The ways to give a passphrase. None of them puts it in the command line, where other users of the machine can read it."""
    # Innermost first, so that the help lists them the other way round.
    command = click.option("--passphrase-fd", type=click.IntRange(min=0), metavar="N", help="Read it from file descriptor N.")(command)
    command = click.option("--passphrase-env", metavar="NAME", help="Read the passphrase from environment variable NAME.")(command)
    return click.option("--passphrase-file", type=click.Path(path_type=Path), metavar="F", help="Read the passphrase from file F.")(command)


@keys.command(context_settings=HELP)
@click.argument("path", type=click.Path(path_type=Path))
@passphrase_options
@click.option("--no-passphrase", is_flag=True, help="Leave the private key unencrypted.")
@click.pass_context
def new(
    ctx: click.Context, path: Path, passphrase_file: Path | None, passphrase_env: str | None, passphrase_fd: int | None, no_passphrase: bool
) -> None:
    """Make a signing key (ECDSA P-256): the private half at PATH, the public half beside it, ending in .pub.

    Nothing is ever overwritten. Keep the private half to yourself; give the public half to whoever is to verify.
    """
    from safeflux_signing import keys as library
    from safeflux_signing.errors import SigningError

    given = [way for way in (passphrase_file, passphrase_env, passphrase_fd) if way is not None]
    if len(given) + no_passphrase > 1:
        raise click.UsageError("Give one passphrase option only.")
    passphrase = read_passphrase(passphrase_file, passphrase_env, passphrase_fd)
    if passphrase is None and not no_passphrase:
        if not _asking():
            raise click.UsageError("No passphrase: give --passphrase-file, --passphrase-env or --passphrase-fd, or --no-passphrase.")
        passphrase = str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)).encode("utf-8")
    try:
        public_path = library.new(path, passphrase)
        public = library.load_public(public_path)
    except SigningError as error:
        _fail(ctx, error)
    click.echo(f"private key  {path} ({'unencrypted' if passphrase is None else 'encrypted'})")
    click.echo(f"public key   {public_path}")
    click.echo(f"key id       {library.key_id(public)}")


@keys.command(context_settings=HELP)
@click.argument("path", type=click.Path(path_type=Path))
@passphrase_options
@click.pass_context
def show(ctx: click.Context, path: Path, passphrase_file: Path | None, passphrase_env: str | None, passphrase_fd: int | None) -> None:
    """Say the id and type of the public or private key in PATH."""
    from safeflux_signing import keys as library
    from safeflux_signing.errors import InputError, SigningError

    passphrase = read_passphrase(passphrase_file, passphrase_env, passphrase_fd)
    try:
        try:
            public, half = library.load_public(path), "public"
        except InputError as error:
            if error.findings[0].code != "key-private":
                raise
            public, half = load_private(path, passphrase).public_key(), "private"
    except SigningError as error:
        _fail(ctx, error)
    click.echo(f"key id  {library.key_id(public)}")
    click.echo(f"type    {library.kind(public).in_words}, {half} half")


def read_passphrase(file: Path | None, variable: str | None, descriptor: int | None) -> bytes | None:
    """The passphrase from wherever it was put, without the line break at its end; None if no place was named."""
    if file is not None:
        try:
            text = file.read_bytes()
        except OSError as error:
            raise click.UsageError(f"Cannot read the passphrase from {file}: {error.strerror}") from error
    elif variable is not None:
        if variable not in os.environ:
            raise click.UsageError(f"The environment variable {variable} is not set.")
        text = os.environb[variable.encode()]
    elif descriptor is not None:
        try:
            with os.fdopen(descriptor, "rb", closefd=False) as stream:
                text = stream.read()
        except OSError as error:
            raise click.UsageError(f"Cannot read the passphrase from descriptor {descriptor}: {error.strerror}") from error
    else:
        return None
    return text.removesuffix(b"\n").removesuffix(b"\r")


def load_private(path: Path, passphrase: bytes | None) -> PrivateKey:
    """The private key, asking for its passphrase if it needs one and somebody is there to answer."""
    from safeflux_signing import keys as library
    from safeflux_signing.errors import InputError

    try:
        return library.load_private(path, passphrase)
    except InputError as error:
        if error.findings[0].code != "passphrase-needed" or not _asking():
            raise
    asked = str(click.prompt("Passphrase", hide_input=True, err=True)).encode("utf-8")
    return library.load_private(path, asked)


def _asking() -> bool:
    """Whether somebody sits at a terminal to answer."""
    return sys.stdin.isatty()


def _fail(ctx: click.Context, error: SigningError) -> NoReturn:
    for finding in error.findings:
        click.echo(f"Error: {finding}\n{finding.remedy}", err=True)
    ctx.exit(error.exit_code)
