"""The commands of ``safeflux keys`` that keep the trust file, and those by which publishers hand over and sign together."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from safeflux_cli.keyfiles import key_name, load_private, passphrase_options, read_passphrase, refusing, signed_by_option, signers_of

if TYPE_CHECKING:
    from safeflux_signing.keynames import KeyName
    from safeflux_signing.trust import TrustedKey, TrustStore

FILE = click.Path(path_type=Path)
TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"])
SEEN = "trust.seen.json"


def trust_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--trust", "trust_file", type=FILE, metavar="F", help="The trust file, if not the one in its usual place.")(command)


@click.command(short_help="Add a public key to the trust file.")
@click.argument("public_key", type=FILE)
@click.option("--publisher", metavar="NAME", help="Whose key it is [default: the file's name].")
@click.option("--role", type=click.Choice(["publisher", "auditor"]), default="publisher", show_default=True, help="See above.")
@click.option("--model", "models", multiple=True, metavar="GLOB", help="Releases it may sign: acme-*; may be repeated [default: all].")
@click.option("--predicate", "predicates", multiple=True, metavar="GLOB", help="Claim types it may sign; may be repeated [default: all].")
@click.option("--not-before", type=TIME, metavar="TIME", help="Valid from then on: 2027-01-31, or 2027-01-31T12:00:00Z.")
@click.option("--not-after", type=TIME, metavar="TIME", help="Valid up to then.")
@click.option("--remember", is_flag=True, help="Remember, beside the trust file, which releases were seen; refuse older ones.")
@trust_option
@click.pass_context
def trust(
    ctx: click.Context,
    public_key: Path,
    publisher: str | None,
    role: Literal["publisher", "auditor"],
    models: tuple[str, ...],
    predicates: tuple[str, ...],
    not_before: datetime | None,
    not_after: datetime | None,
    remember: bool,
    trust_file: Path | None,
) -> None:
    """Add the key in PUBLIC_KEY (PEM) to the trust file. Have it from its owner, and never from the release it is to vouch for.

    A publisher may sign releases. An auditor may sign claims about them, and count towards a threshold beside a publisher.
    A threshold binds ids of releases (--model), not keys: a key that is trusted with wider ones still signs others alone.
    """
    from dataclasses import replace

    from safeflux_signing import keys, trustchanges
    from safeflux_signing.trust import ANY, TrustedKey

    with refusing(ctx):
        begin, end = _utc(not_before), _utc(not_after)
        key = keys.load_public(public_key)
        entry = TrustedKey(key, publisher or public_key.stem, role, models or ANY, predicates or ANY, begin, end)

        def how(store: TrustStore) -> TrustStore:
            return replace(trustchanges.add(store, entry), remember=SEEN if remember else store.remember)

        path = _change(trust_file, how)
    _say(entry, path)


@click.command(short_help="Take a key out of the trust file.")
@click.argument("key", metavar="KEY")
@trust_option
@click.pass_context
def untrust(ctx: click.Context, key: str, trust_file: Path | None) -> None:
    """Take a key out of the trust file. KEY is its id, or a file that holds it.

    Nothing is remembered of it: to keep a stolen key from being trusted again, revoke it.
    """
    from safeflux_signing import trustchanges

    with refusing(ctx):
        key_id = _key_id(key)
        path = _change(trust_file, lambda store: trustchanges.drop(store, key_id))
    click.echo(f"no longer trusted in {path}: {key_id}")


@click.command(short_help="Mark a key or a release as revoked.")
@click.argument("key", metavar="[KEY]", required=False)
@click.option("--release", "release_id", metavar="ID", help="Revoke this release instead of a key.")
@click.option("--reason", required=True, help="Why; shown to whoever verifies.")
@trust_option
@click.pass_context
def revoke(ctx: click.Context, key: str | None, release_id: str | None, reason: str, trust_file: Path | None) -> None:
    """Mark a key in the trust file as revoked, or a release: whatever it signed, and whenever, verifies no more.

    KEY is the key's id, or a file that holds it.
    """
    from safeflux_signing import trustchanges
    from safeflux_signing.trust import Revocation

    if (key is None) == (release_id is None):
        raise click.UsageError("Give a key, or --release ID.")
    why = Revocation(reason, _now())
    with refusing(ctx):
        if release_id is not None:
            path = _change(trust_file, lambda store: trustchanges.revoke_release(store, release_id, why))
        else:
            key_id = _key_id(str(key))
            path = _change(trust_file, lambda store: trustchanges.revoke_key(store, key_id, why))
    click.echo(f"revoked in {path}: {key_id if release_id is None else f'release {release_id}'}")


@click.command(short_help="Hand over to a new key, with a signed statement.")
@click.argument("old", nargs=-1, required=True, type=key_name)
@click.option("--to", "new", required=True, type=FILE, metavar="PUB", help="The public half of the new key.")
@click.option("--out", required=True, type=FILE, metavar="F", help="Where to write the statement; the file may not exist.")
@passphrase_options
@click.pass_context
def rotate(
    ctx: click.Context,
    old: tuple[KeyName, ...],
    new: Path,
    out: Path,
    passphrase_file: Path | None,
    passphrase_env: str | None,
    passphrase_fd: int | None,
) -> None:
    """Hand over to a new key: write a statement, signed by each of the OLD private keys, that names it as their successor.

    Whoever trusts the old keys gives the statement to `safeflux keys apply`. If an old key is stolen, rotation is no way out: a thief
    can write such a statement too. Have your users revoke it.
    """
    from safeflux_signing import keys, smallfiles, trustchanges

    with refusing(ctx):
        passphrase = read_passphrase(passphrase_file, passphrase_env, passphrase_fd)
        successor = keys.load_public(new)
        statement = trustchanges.rotation([load_private(path, passphrase) for path in old], successor)
        smallfiles.create(out, statement, 0o644)
    click.echo(f"statement  {out}")
    click.echo(f"new key    {keys.key_id(successor)}")


@click.command(short_help="Trust a publisher's new key, as such a statement says.")
@click.argument("statement", type=FILE)
@trust_option
@click.pass_context
def apply(ctx: click.Context, statement: Path, trust_file: Path | None) -> None:
    """Put a publisher's new key in the place of its old ones, as STATEMENT (by `safeflux keys rotate`) says.

    Only if all of the old keys are trusted, valid and not revoked. The new key gets what they had and no more; they count as revoked.
    """
    from safeflux_signing import trustchanges

    heirs: list[TrustedKey] = []

    def how(store: TrustStore) -> TrustStore:
        store, heir = trustchanges.rotate(store, data, _now(), str(statement))
        heirs.append(heir)
        return store

    with refusing(ctx):
        data = trustchanges.read_statement(statement)
        path = _change(trust_file, how)
    _say(heirs[0], path)


@click.command(short_help="Sign a release beside its publisher.")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--key", required=True, type=key_name, metavar="PRIVATE", help="Private key to sign with: PEM file, pkcs11:... (RFC 7512) or exec:..."
)
@signed_by_option
@passphrase_options
@click.pass_context
def cosign(
    ctx: click.Context,
    directory: Path,
    key: KeyName,
    signers: tuple[Path, ...],
    passphrase_file: Path | None,
    passphrase_env: str | None,
    passphrase_fd: int | None,
) -> None:
    """Sign the release DIRECTORY beside its publisher, after verifying it, for users whose trust file asks for several keys."""
    from safeflux_signing import keys, sign

    with refusing(ctx):
        private = load_private(key, read_passphrase(passphrase_file, passphrase_env, passphrase_fd))
        written = sign.cosign(directory, private, signers_of(directory, signers))
    click.echo(f"signed  {written}, with key {keys.key_id(private.public_key())}")


def _change(trust_file: Path | None, how: Callable[[TrustStore], TrustStore]) -> Path:
    """Change the trust file that is meant; says where it is."""
    from safeflux_signing import trustfile

    path = trust_file or trustfile.default_path()
    trustfile.change(path, how)
    return path


def _key_id(text: str) -> str:
    """The key id in ``text``, or that of the public key in the file of this name."""
    from safeflux_signing import keys

    return text if re.fullmatch("[0-9a-f]{64}", text) else keys.key_id(keys.load_public(Path(text)))


def _say(entry: TrustedKey, path: Path) -> None:
    from safeflux_signing import keys

    click.echo(f"key id     {entry.key_id}")
    click.echo(f"type       {keys.kind(entry.key).in_words}")
    click.echo(f"of         {entry.publisher}, as {entry.role}")
    click.echo(f"releases   {', '.join(entry.models)}")
    click.echo(f"claims     {', '.join(entry.predicates)}")
    limits = [f"{word} {time:%Y-%m-%d %H:%M:%S} UTC" for word, time in (("from", entry.not_before), ("until", entry.not_after)) if time]
    click.echo(f"valid      {' '.join(limits) or 'without end'}")
    click.echo(f"trusted    in {path}")


def _utc(time: datetime | None) -> datetime | None:
    return time and time.replace(tzinfo=UTC)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
