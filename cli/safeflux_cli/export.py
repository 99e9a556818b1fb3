"""``safeflux export``: a finished release in more formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from safeflux_cli.keyfiles import key_name, load_signer, passphrase_options, read_passphrase, refusing, signers_of
from safeflux_cli.making import loudness, threads_option, use_threads, watched

if TYPE_CHECKING:
    from safeflux.policy import Choice
    from safeflux_signing.keynames import KeyName


def _format(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> list[Choice]:
    """``gguf:keys=diffusers`` as the choice that a policy would write ``{gguf: {keys: diffusers}}``."""
    from safeflux.errors import SafeFluxError
    from safeflux.options import options
    from safeflux.policy import Choice
    from safeflux.shape import problems

    found = []
    for text in given:
        name, _, rest = text.partition(":")
        chosen: dict[str, Any] = {}
        try:
            known = options("exporter", name)
        except SafeFluxError as error:
            raise click.BadParameter(str(error)) from error
        for part in filter(None, rest.split(",")):
            option, _, value = part.partition("=")
            if option not in known:
                raise click.BadParameter(f"{name} takes no option {option!r}; it takes {', '.join(known) or 'none'}")
            chosen[option] = value
            if wrong := problems(value, known[option].schema):
                raise click.BadParameter(f"{name}: {option} {'; '.join(wrong).removeprefix('the report: ')}")
        found.append(Choice(name, chosen))
    return found


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--to", "formats", multiple=True, required=True, callback=_format, metavar="FORMAT",
    help="single-file, fp8, gguf, onnx, delta or diffusers, with options as in gguf:keys=diffusers; may be repeated.",
)  # fmt: skip
@click.option(
    "--key",
    required=True,
    type=key_name,
    metavar="KEY",
    help="The key it was signed with: PEM file, pkcs11:... (RFC 7512), exec:... or sigstore:",
)
@click.option("--base", metavar="BASE", help="The model it was made from, a directory or builtin:flux-mini; the delta needs it.")
@click.option(
    "--signed-by",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PUB",
    help="Who else has signed it; repeatable. Or a trust file (.toml).",
)
@passphrase_options
@threads_option
@click.option("--json", "as_json", is_flag=True, help="Print what the report says of the new formats, as JSON.")
@click.option("-v", "--verbose", count=True, help="Say more; twice: everything.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress and no summary.")
@click.pass_context
def export(
    ctx: click.Context, directory: Path, formats: list[Choice], key: KeyName, base: str | None, signed_by: tuple[Path, ...],
    passphrase_file: Path | None, passphrase_env: str | None, passphrase_fd: int | None, threads: int | None, as_json: bool,
    verbose: int, quiet: bool,
) -> None:  # fmt: skip
    """Add formats to the release DIRECTORY, and sign it anew with a higher sequence number.

    Each is loaded again by its public loader, in a process of its own, compared with the release's model and asked the first prompts of its
    audit, as the formats of the policy were; the report then lists it. If one fails, nothing has changed.

    Exit code: 0 added and signed; 1 the directory is not what the key signed; 2 wrong usage; 3 it could not be done.
    """
    quiet = loudness(ctx, verbose, quiet)
    use_threads(threads)
    with refusing(ctx):
        signer = load_signer(key, read_passphrase(passphrase_file, passphrase_env, passphrase_fd))
        others = signers_of(directory, signed_by)
    with watched([], quiet or as_json) as watch:
        from safeflux.growing import grow

        def tell(what: str, done: int, total: int) -> None:
            watch(f"export: {what}", done, total)

        made = grow(directory, formats, key=signer, base=base, signed_by=others, progress=tell)
    if as_json:
        click.echo(json.dumps({"release": str(made.release_dir), "sequence": made.sequence, "exports": list(made.exports)}, indent=2))
    elif not quiet:
        for one in made.exports:
            click.echo(f"added    {one['format']}, loaded again by {one['consumer']}")
        click.echo(f"signed   {made.release_dir}, sequence {made.sequence}")
