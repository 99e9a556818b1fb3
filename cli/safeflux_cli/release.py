"""``safeflux release``: a policy file in, a signed release out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from safeflux_cli.making import make, release_options


@click.command()
@click.argument("file", metavar="POLICY", type=click.Path(path_type=Path))
@release_options
@click.pass_context
def release(ctx: click.Context, /, file: Path, **options: Any) -> int:
    """Erase the concepts that POLICY lists from its base model, measure what is left of them, and sign the result.

    What to publish ends up in OUT/release, what a later run goes on from in OUT/work. It may be interrupted at any moment:
    the same command goes on from the last finished stage.

    Exit code: 0 passed and signed; 1 the model did not pass; 2 wrong usage or a wrong policy; 3 it could not be done;
    130 interrupted.
    """
    from safeflux.policy import load_policy

    return make(ctx, load_policy(file), **options)
