"""``safeflux policy``: check policy files, print their JSON Schema, start new ones from a template."""

from __future__ import annotations

import json
from pathlib import Path

import click

from safeflux.errors import PolicyError
from safeflux.policy import load_policy, schema, template, templates
from safeflux.policy.licences import gate


@click.group()
def policy() -> None:
    """Check policy files, start new ones."""


@policy.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def check(file: Path, as_json: bool) -> int:
    """Say everything that is wrong with a policy FILE, as file:line:column: field: what came; what is allowed.

    Exits 0 when nothing is, else 2. Loads no model and needs no network.
    """
    try:
        found = load_policy(file)
        licence = gate(found)
    except PolicyError as error:
        if not as_json:
            raise
        click.echo(json.dumps({"file": str(file), "ok": False, "problems": error.problems}, indent=2, ensure_ascii=False))
        return error.exit_code
    if as_json:
        click.echo(
            json.dumps(
                {"file": str(file), "ok": True, "problems": [], "name": found.name, "digest": found.digest, "base_license": licence.terms},
                indent=2,
            )
        )
    else:
        names = ", ".join(concept.name for concept in found.concepts)
        click.echo(f"{file}: good. {found.name} {found.version} erases {names} from {found.base.model}.")
        if licence.non_commercial:
            click.echo(f"The base model is under the FLUX.1 [dev] Non-Commercial License ({licence.because}), and so will the release be.")
    return 0


@policy.command("schema")
def schema_() -> None:
    """Print the JSON Schema of policy files, for editors. It knows the plug-ins installed here."""
    click.echo(json.dumps(schema(), indent=2, ensure_ascii=False))


@policy.command()
@click.option("--template", "name", help="Which template to start from; without it, they are listed.")
@click.argument("path", type=click.Path(path_type=Path), required=False)
def new(name: str | None, path: Path | None) -> None:
    """Start a policy at PATH (default: TEMPLATE.yaml) from a template. Never writes over a file."""
    known = templates()
    if name is None:
        if path is not None:
            raise click.UsageError(f"which template? --template {' or '.join(known)}")
        for one, said in known.items():
            click.echo(f"{one:12} {said}")
        return
    if name not in known:
        raise click.BadParameter(f"there is no template {name!r}; there is {', '.join(known)}", param_hint="--template")
    path = path or Path(f"{name}.yaml")
    try:
        with path.open("xb") as file:
            file.write(template(name))
    except FileExistsError as error:
        raise click.UsageError(f"{path} is there already; name another path") from error
    except OSError as error:
        raise click.UsageError(f"{path} cannot be written: {error.strerror}") from error
    click.echo(f"{path}: written. Edit it, then: safeflux policy check {path}")
