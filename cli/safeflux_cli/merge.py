"""``safeflux merge``: releases that were made apart become one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from safeflux_cli.making import default_out, make, release_options

if TYPE_CHECKING:
    from safeflux.policy import Policy


@click.command()
@click.argument("releases", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--name", help="Name of the new release [default: those of RELEASES, joined].")
@click.option("--version", default="1.0", show_default=True, help="Version of the new release.")
@click.option("--base", metavar="MODEL", help="The base model, where the releases do not say which directory it is in.")
@release_options
@click.pass_context
def merge(ctx: click.Context, /, releases: tuple[Path, ...], name: str | None, version: str, base: str | None, **options: Any) -> int:
    """Make one release of two or more RELEASES that method mask made of the same base model.

    It erases all of their concepts and keeps the stricter of their limits; all else is as the first one has it. Training starts from
    the product of their masks and is short: it repairs what the masks do to each other, and gives back what they closed in vain.
    The policy is written to OUT/policy.yaml; `safeflux release` takes it, too. RELEASES are not verified; `safeflux verify` does that.

    Exit code: as of `safeflux release`.
    """
    from safeflux.merge import merged_policy

    if base is not None and base[0] in "./~":  # the policy will lie elsewhere
        base = str(Path(base).expanduser().absolute())
    text = merged_policy(releases, name=name, version=version, base=base)
    return make(ctx, _policy(text, options), **options)


def _policy(text: str, options: dict[str, Any]) -> Policy:
    """The merged policy, read as from its file, which is written unless nothing is to be done."""
    from safeflux.files import write_atomic
    from safeflux.policy import read_policy

    raw = text.encode()
    path = (options["out"] or default_out(read_policy(raw, None))) / "policy.yaml"
    if path.is_file() and path.read_bytes() != raw:
        raise click.UsageError(f"{path} is there and says otherwise; `safeflux release {path}` makes that one, --out DIR another")
    if not options["dry_run"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    return read_policy(raw, path)
