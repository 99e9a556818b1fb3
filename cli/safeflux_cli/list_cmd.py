"""``safeflux list``: what there is to choose from."""

from __future__ import annotations

import json

import click

from safeflux.families import FAMILIES, MEANS, works

SCHEMA = "safeflux-models/1"
_HEAD = ("family", "model", "can be masked", "modulation", "works")


@click.group("list")
def list_() -> None:
    """List what there is."""


@list_.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def models(as_json: bool) -> None:
    """List published models by family, and what works on them.

    A modulation that is "shared" acts in all blocks at once, and is masked only where it is named; where it is "none", no layer makes it
    that could be. Loads no model. Others of the same architecture work as well: what counts is how a directory is built.
    """
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, "families": _families(), "works": MEANS}, indent=2))
        return
    rows = [_HEAD, *_rows()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for word, meaning in MEANS.items():
        click.echo("\n" + click.wrap_text(f"{word}: {meaning}", width=sum(widths)))


def _rows() -> list[tuple[str, ...]]:
    return [
        (family.name, model, ", ".join(family.kinds), family.scope, works(family, model))
        for family in FAMILIES
        for model in family.published
    ]


def _families() -> list[dict[str, object]]:
    return [
        {
            "name": family.name,
            "transformer": family.transformer,
            "masked": list(family.kinds),
            "modulation": family.scope,
            "single_file": family.single_file is not None,
            "models": [{"name": m, "pipeline": pipeline, "works": works(family, m)} for m, pipeline in family.published.items()],
        }
        for family in FAMILIES
    ]
