"""``safeflux bake``: masks from a release, written into their base."""

from __future__ import annotations

from pathlib import Path

import click

from safeflux_cli.making import use_threads


@click.command()
@click.option(
    "--masks",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The file: exports/delta/masks.safetensors.",
)
@click.option("--base", required=True, metavar="BASE", help="The very model that they were made for: its directory, or builtin:flux-mini.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Where to write: a new directory.")
def bake(masks: Path, base: str, out: Path) -> None:
    """Bake masks into the model they were made for, as a diffusers directory.

    The masks name neurons by their places, so the base is held against the digest in their file. What comes of it has the weights of the
    release they were exported from, bit for bit, but neither its report nor its signature.

    Exit code: 0 written; 2 wrong usage; 3 the file holds no masks, or those of another base.
    """
    use_threads(None)
    from safeflux.delta import apply
    from safeflux.plan.base import directory

    apply(masks, directory(base), out)
    click.echo(f"written  {out}")
