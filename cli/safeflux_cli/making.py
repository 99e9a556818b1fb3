"""What the commands that make a release share: their options, what they show meanwhile, what they say in the end."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from safeflux_cli.keyfiles import key_name, load_signer, passphrase_options, read_passphrase, trusting
from safeflux_cli.progress import Progress

if TYPE_CHECKING:
    from safeflux.policy import Policy
    from safeflux.release import ReleaseResult
    from safeflux.types import Report
    from safeflux_signing.keynames import KeyName
    from safeflux_signing.signers import AnySigner

SCHEMA = "safeflux-release/1"
NOT_PASSED, INTERRUPTED = 1, 130


threads_option = click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="Processor threads [default: OMP_NUM_THREADS, or one a core]."
)
jobs_option = click.option(
    "--jobs", type=click.IntRange(min=1), default=1, metavar="N", show_default=True,
    help="Attacks at the same time. Each holds the model once more; they share processor threads, and take turns with graphics cards.",
)  # fmt: skip
_OPTIONS = (
    click.option(
        "--out", type=click.Path(file_okay=False, path_type=Path), help="Where to work and publish [default: runs/NAME of the policy]."
    ),
    click.option("--dry-run", is_flag=True, help="Say what would be done and what it would cost, and do nothing."),
    click.option("--allow-failing", is_flag=True, help="Sign also a model that does not pass; its claims say that it failed."),
    click.option(
        "--key",
        type=key_name,
        metavar="KEY",
        help="Private key to sign with, if not the policy's: PEM file, pkcs11:... (RFC 7512), exec:... or sigstore:",
    ),
    passphrase_options,
    threads_option,
    jobs_option,
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end instead of text."),
    click.option("-v", "--verbose", count=True, help="Say more; twice: everything."),
    click.option("-q", "--quiet", is_flag=True, help="Show no progress and no summary."),
)


def release_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that ``make`` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def make(
    ctx: click.Context, policy: Policy, *, out: Path | None, dry_run: bool, allow_failing: bool, key: KeyName | None,
    passphrase_file: Path | None, passphrase_env: str | None, passphrase_fd: int | None, threads: int | None, jobs: int,
    as_json: bool, verbose: int, quiet: bool,
) -> int:  # fmt: skip
    """Make the release and say how it went; returns the exit code."""
    quiet = loudness(ctx, verbose, quiet)
    if dry_run:
        return _foretell(policy, as_json)
    use_threads(threads)
    out = out or default_out(policy)
    signer, public = _signer(policy, key, read_passphrase(passphrase_file, passphrase_env, passphrase_fd))
    finished: list[str] = []
    try:
        with watched(finished, quiet or as_json) as watch:
            from safeflux.release import release

            result = release(policy, out=out, key=signer, allow_failing=allow_failing, jobs=jobs, progress=watch)
    except KeyboardInterrupt:
        kept = ", ".join(finished) or "nothing yet"
        click.echo(
            f"\nInterrupted. Kept in {out / 'work'}: {kept}; long stages also keep how far they came.\n"
            "The same command goes on from there.",
            err=True,
        )
        return INTERRUPTED
    public = result.public_key or public
    if as_json:
        click.echo(json.dumps(_as_json(result, public), indent=2, ensure_ascii=False))
    elif not quiet:
        _summary(result, public)
    return 0 if result.verdict == "passed" else NOT_PASSED


def default_out(policy: Policy) -> Path:
    return Path("runs") / policy.name


def _foretell(policy: Policy, as_json: bool) -> int:
    from safeflux.plan import describe, make_plan

    plan = make_plan(policy)
    click.echo(json.dumps(plan.to_json(), indent=2, ensure_ascii=False) if as_json else describe(plan), nl=as_json)
    return 0


def loudness(ctx: click.Context, verbose: int, quiet: bool) -> bool:
    """-v and -q may stand before or after the command. Whether to be quiet."""
    if verbose and quiet:
        raise click.UsageError("-v and -q exclude each other")
    if verbose or quiet:
        logging.getLogger("safeflux").setLevel(logging.ERROR if quiet else logging.INFO if verbose == 1 else logging.DEBUG)
    return quiet or bool((ctx.obj or {}).get("quiet"))


def use_threads(threads: int | None) -> None:
    """How many threads torch will use, and no chatter from transformers, both said before they are imported.

    A setting from outside stands, unless ``threads`` is given.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if threads is not None or "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = str(threads or cores())


def cores() -> int:
    """Physical cores this process may use: two threads on one core only get into each other's way."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    topology = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    try:
        return len({Path(topology.format(cpu)).read_text(encoding="ascii") for cpu in allowed})
    except OSError:
        return len(allowed)


def _signer(policy: Policy, key: KeyName | None, passphrase: bytes | None) -> tuple[AnySigner | None, Path | None]:
    """The key named here or in the policy, unlocked, and its public half; None leaves it to the release (a demo key, or none)."""
    from safeflux.errors import PlanError
    from safeflux_signing.errors import SigningError
    from safeflux_signing.signers import public_file

    key = key or (key_name(policy.signing.key) if policy.signing.key else None)
    if key is None:
        return None, None
    try:
        signer = load_signer(key, passphrase)
    except SigningError as error:
        raise PlanError("\n".join(f"{finding}\n    {finding.remedy}" for finding in error.findings)) from error
    return signer, public_file(key)


@contextmanager
def watched(finished: list[str], silent: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Progress on standard error unless ``silent``, log messages below it; the names of finished stages go into ``finished``."""
    with Progress(sys.stderr) as bar:

        def watch(what: str, done: int, total: int) -> None:
            stage, _, how = what.partition(" ")
            if not stage.endswith(":") and done:
                finished.append(stage)
            if silent:
                return
            if stage.endswith(":"):
                bar(what, done, total)
            elif done:
                bar.end(stage, how.strip("()") or "done")
            else:
                bar.begin(stage)

        def below(record: logging.LogRecord) -> bool:
            bar.end_line()
            return True

        handlers = logging.getLogger("safeflux").handlers
        for handler in handlers:
            handler.addFilter(below)
        try:
            yield watch
        finally:
            for handler in handlers:
                handler.removeFilter(below)


def _summary(result: ReleaseResult, public: Path | None) -> None:
    """The verdict, the lines it rests on, and what to do next."""
    click.echo(f"\n{result.report.name} {result.report.version}: {result.verdict.upper()}\n")
    if merged := result.report.training.get("product"):
        _side_by_side(merged, result.report.training["rates"])
    limited_lines(result.report)
    if not result.signed:
        click.echo(f"\nNot signed. The files are in {result.release_dir}; --allow-failing would sign them, and say that they failed.")
        return
    click.echo(f"\nPublish  {result.release_dir}\nReport   {result.release_dir / 'erasure_report.html'}")
    click.echo(f"Verify   safeflux verify {result.release_dir} {trusting(result.release_dir, public)}")


def limited_lines(report: Report) -> None:
    """The lines that a limit applies to, and why some could not be decided."""
    from safeflux.wording import attack, metric

    rows: list[tuple[str, ...]] = [("concept", "asked by", "measured", "base", "erased", "bound", "limit", "")]
    base = {(f.concept, f.attack, f.metric): f for f in report.findings if f.model == "base"}
    for f in report.findings:
        if f.model == "erased" and f.limit is not None:
            control = base.get((f.concept, f.attack, f.metric))
            rates = [_rate(control.value if control else None), _rate(f.value), _rate(f.bound), _rate(f.limit)]
            rows.append((f.concept or "what must stay", attack(f.attack), metric(f.metric), *rates, f.status))
    table(rows, numbers=range(3, 7))
    for f in report.findings:
        if f.status == "unchecked" and f.limit is not None:
            click.echo(f"  unchecked: {f.concept or 'what must stay'}, {attack(f.attack)}: {f.reason}")


def _side_by_side(product: Any, rates: Any) -> None:
    """What merging as the paper does it would have come to, beside what training all together came to."""
    click.echo("  On held-out pictures, before the audit:")
    rows = [(name, _rate(product[name]), _rate(rates[name])) for name in product]
    table([("", "product of the masks", "trained together"), *rows], numbers=range(1, 3))
    click.echo()


def table(rows: Sequence[tuple[str, ...]], numbers: range) -> None:
    """Columns under their heads, those of ``numbers`` to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(width) if i in numbers else cell.ljust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))]
        click.echo(f"  {'  '.join(cells)}".rstrip())


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"


def _as_json(result: ReleaseResult, public: Path | None) -> dict[str, object]:
    from safeflux.report import to_json

    return {
        "schema": SCHEMA,
        "verdict": result.verdict,
        "signed": result.signed,
        "directory": str(result.release_dir),
        "public_key": None if public is None else str(public),
        "report": to_json(result.report),
    }
