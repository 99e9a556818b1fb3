"""``safeflux plan``: what a release would do and cost."""

from __future__ import annotations

import json
from pathlib import Path

import click

from safeflux.plan import describe, make_plan
from safeflux.policy import load_policy


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(file: Path, as_json: bool) -> None:
    """Say what `safeflux release FILE` would do, how it would be judged, and what it would cost.

    Loads no model. Refuses an audit that is too small for its limits ever to be met.
    """
    found = make_plan(load_policy(file))
    click.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False) if as_json else describe(found), nl=as_json)
