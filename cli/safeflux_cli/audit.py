"""``safeflux audit``: any FLUX directory against a policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from safeflux.policy.model import Preset
from safeflux_cli.making import INTERRUPTED, NOT_PASSED, jobs_option, limited_lines, loudness, table, threads_option, use_threads, watched

if TYPE_CHECKING:
    from safeflux.examine import Examined


@click.command()
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--policy", required=True, type=click.Path(path_type=Path), help="What must be gone, how to look for it, and the limits.")
@click.option("--base", metavar="BASE", help="Directory of the model it was made from [default: the policy's]: the control of every line.")
@click.option("--preset", type=click.Choice(get_args(Preset)), help="How hard to look, in place of the policy's preset and images.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Where to work and write the report [default: runs/audit-NAME]."
)
@threads_option
@jobs_option
@click.option("--json", "as_json", is_flag=True, help="Print the erasure report as JSON instead of text.")
@click.option("-v", "--verbose", count=True, help="Say more; twice: everything.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress and no summary.")
@click.pass_context
def audit(ctx: click.Context, /, model: Path, threads: int | None, as_json: bool, verbose: int, quiet: bool, **asked: Any) -> int:
    """Run the attacks of a policy on the diffusers directory MODEL, whoever made it, and on its base model, and report what was found.

    The report, as JSON and HTML, ends up in OUT; it names MODEL by the digests that a signature of its files has. What was drawn is kept
    there: the same command, interrupted, goes on. Nothing is signed, and MODEL is not changed.

    Exit code: 0 every limit was shown to be met; 1 one was not, or could not be decided; 2 wrong usage or a wrong policy; 3 it could not
    be done; 130 interrupted.
    """
    quiet = loudness(ctx, verbose, quiet)
    use_threads(threads)
    finished: list[str] = []
    try:
        with watched(finished, quiet or as_json) as watch:
            from safeflux.examine import examine

            found = examine(model, asked.pop("policy"), progress=watch, **asked)
    except KeyboardInterrupt:
        click.echo("\nInterrupted. What was drawn is kept; the same command goes on from there.", err=True)
        return INTERRUPTED
    if as_json:
        from safeflux.report import to_text

        click.echo(to_text(found.report), nl=False)
    elif not quiet:
        _summary(found)
    return 0 if found.verdict == "passed" else NOT_PASSED


def _summary(found: Examined) -> None:
    """The verdict, the lines it rests on, and what each attack took."""
    from safeflux.wording import attack

    click.echo(f"\n{found.report.subject['name']} by {found.report.name} {found.report.version}: {found.verdict.upper()}\n")
    limited_lines(found.report)
    click.echo()
    rows = [
        (attack(name), f"{which} model", f"{spent.evaluations:,}", f"{spent.seconds:,.0f}")
        for (name, which), spent in sorted(found.spent.items())
    ]
    table([("asked by", "drawn by", "evaluations", "seconds"), *rows], numbers=range(2, 4))
    click.echo(f"\nReport   {found.directory / 'erasure_report.html'}\n         {found.directory / 'erasure_report.json'}")
