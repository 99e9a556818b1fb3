"""What the commands that handle keys share: where a passphrase comes from, how a key is opened, how a refusal is said."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from safeflux_signing.keynames import KeyName
    from safeflux_signing.keys import PublicKey
    from safeflux_signing.signers import AnySigner, SigningKey
    from safeflux_signing.trust import TrustStore


def key_name(text: str) -> KeyName:
    """Where a private key is, see ``safeflux_signing.keynames``. Raises UsageError for what is no such name.

    What the options and arguments are read with that name one.
    """
    from safeflux_signing import keynames
    from safeflux_signing.errors import InputError

    try:
        return keynames.named(text)
    except InputError as error:
        [finding] = error.findings
        raise click.UsageError(f"{finding}{f'; wanted {finding.expected}' if finding.expected else ''}\n{finding.remedy}") from error


def passphrase_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The ways to give a passphrase. None of them puts it in the command line, where other users of the machine can read it."""
    # Innermost first, so that the help lists them the other way round.
    command = click.option("--passphrase-fd", type=click.IntRange(min=0), metavar="N", help="Read it from file descriptor N.")(command)
    command = click.option("--passphrase-env", metavar="NAME", help="Read the passphrase from environment variable NAME.")(command)
    return click.option("--passphrase-file", type=click.Path(path_type=Path), metavar="F", help="Read the passphrase from file F.")(command)


signed_by_option = click.option(
    "--signed-by",
    "signers",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    metavar="PUB",
    help="Whose signature it has; repeatable. Or a trust file (.toml).",
)


def read_passphrase(passphrase_file: Path | None, passphrase_env: str | None, passphrase_fd: int | None) -> bytes | None:
    """The passphrase from wherever ``passphrase_options`` put it, without the line break at its end; None if no place was named."""
    if passphrase_file is not None:
        try:
            text = passphrase_file.read_bytes()
        except OSError as error:
            raise click.UsageError(f"Cannot read the passphrase from {passphrase_file}: {error.strerror}") from error
    elif passphrase_env is not None:
        if passphrase_env not in os.environ:
            raise click.UsageError(f"The environment variable {passphrase_env} is not set.")
        text = os.environb[passphrase_env.encode()]
    elif passphrase_fd is not None:
        try:
            with os.fdopen(passphrase_fd, "rb", closefd=False) as stream:
                text = stream.read()
        except OSError as error:
            raise click.UsageError(f"Cannot read the passphrase from descriptor {passphrase_fd}: {error.strerror}") from error
    else:
        return None
    return text.removesuffix(b"\n").removesuffix(b"\r")


def load_signer(key: KeyName, passphrase: bytes | None) -> AnySigner:
    """Whoever is named: as ``load_private``, or somebody whom Sigstore certifies."""
    from safeflux_signing import signers
    from safeflux_signing.keynames import SigstoreName

    return signers.load(key) if isinstance(key, SigstoreName) else load_private(key, passphrase)


def load_private(key: KeyName, passphrase: bytes | None) -> SigningKey:
    """The private key, asking for its passphrase or PIN if it needs one and somebody is there to answer."""
    from safeflux_signing import signers
    from safeflux_signing.errors import InputError

    try:
        return signers.load_key(key, passphrase)
    except InputError as error:
        if error.findings[0].code != "passphrase-needed" or not asking():
            raise
    asked = str(click.prompt(f"{'Passphrase' if isinstance(key, Path) else 'PIN'} of {key}", hide_input=True, err=True))
    return signers.load_key(key, asked.encode("utf-8"))


def refuse_shipped(directory: Path, files: Iterable[Path]) -> None:
    """Raises UsageError for keys, trust files and the like that lie in the release they are to vouch for."""
    from safeflux.verify import shipped

    if wrong := shipped(directory, files):
        raise click.UsageError(f"{wrong}.")


def signers_of(directory: Path, files: Iterable[Path]) -> TrustStore | list[PublicKey]:
    """The public keys in ``files``, of whoever has signed the release ``directory``; of one file that ends in .toml all whom it trusts.

    Raises InputError, and UsageError as above.
    """
    from safeflux.verify import sources
    from safeflux_signing import keys, trustfile

    files = list(files)
    store = trustfile.read(files[0]) if len(files) == 1 and files[0].suffix == ".toml" else None
    refuse_shipped(directory, [*files, *(sources(store) if store else ())])
    return store or [keys.load_public(file) for file in files]


def trusting(directory: Path, public: Path | None) -> str:
    """By what the release ``directory``, just signed, is verified: a key, or a trust file that has whom a certificate in it names."""
    from safeflux_cli.inspect_claims import by
    from safeflux_signing import unverified

    signer = None if public else unverified.look(directory).signer
    return f"--trust TRUST.toml  # {by(signer)}" if signer and signer.identity else f"--key {public or 'PUBLIC_KEY'}"


def asking() -> bool:
    """Whether somebody sits at a terminal to answer."""
    return sys.stdin.isatty()


@contextmanager
def refusing(ctx: click.Context) -> Iterator[None]:
    """Say every refusal within, with what to do about it, and leave with its exit code."""
    from safeflux_signing.errors import SigningError

    try:
        yield
    except SigningError as error:
        for finding in error.findings:
            click.echo(f"Error: {finding}\n{finding.remedy}", err=True)
        ctx.exit(error.exit_code)
