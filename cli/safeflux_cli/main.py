"""``safeflux``: which commands there are, how loud they are, and how errors leave.

Starts in the blink that importing click takes: a command's module is imported when the command is called, and the
help text of each stands here.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence

import click

from safeflux.errors import SafeFluxError

COMMANDS = {  # name: where it is, what the list of commands says
    "release": ("safeflux_cli.release:release", "Erase concepts, prove it, sign it: a policy file in, a release out."),
    "merge": ("safeflux_cli.merge:merge", "Make one release of several that were made apart."),
    "audit": ("safeflux_cli.audit:audit", "Attack any FLUX model as a policy says, and report what came of it."),
    "export": ("safeflux_cli.export:export", "Add formats for other tools to a finished release."),
    "bake": ("safeflux_cli.bake:bake", "Write the masks of a release into the model they belong to."),
    "plan": ("safeflux_cli.plan:plan", "Say what a release would do and cost."),
    "policy": ("safeflux_cli.policy:policy", "Check policy files, start new ones."),
    "list": ("safeflux_cli.list_cmd:list_", "List the model families there are, and what works on them."),
    "verify": ("safeflux_cli.verify:verify", "Check a release: signature, files, claims and trust."),
    "claim": ("safeflux_cli.claim:claim", "Add what an auditor found to a release, signed."),
    "inspect": ("safeflux_cli.inspect_cmd:inspect", "Show what a release says of itself; checks nothing."),
    "keys": ("safeflux_cli.keys:keys", "Make and show signing keys; keep the list of keys you trust."),
}
_LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is asked to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{attribute} is no click command but {type(command).__name__}")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, said) for name, (_, said) in COMMANDS.items()])


def _version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib import metadata  # a third of the time in which the program starts

    try:
        click.echo(f"safeflux {metadata.version('safeflux')}")
    except metadata.PackageNotFoundError:
        click.echo("safeflux, not installed")
    ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.option("-v", "--verbose", count=True, help="Say more; twice: everything, and tracebacks.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit.")
@click.pass_context
def safeflux(ctx: click.Context, verbose: int, quiet: bool) -> None:
    """Release FLUX models from which concepts were erased, with proof and a signature.

    \b
    Exit codes: 0 good; 1 the model did not pass, or a release is not to be trusted;
    2 wrong usage or a wrong policy; 3 the tool could not do its work.
    """
    if verbose and quiet:
        raise click.UsageError("-v and -q exclude each other")
    ctx.obj = {"verbose": verbose, "quiet": quiet}
    set_up_logging(verbose, quiet)


def set_up_logging(verbose: int, quiet: bool) -> None:
    """The library's log goes to stderr: warnings, or with -v what it does, with -vv everything, with -q errors only."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s" if verbose > 1 else "%(message)s"))
    logger = logging.getLogger("safeflux")
    logger.handlers[:] = [handler]
    logger.setLevel(_LEVELS.get(-1 if quiet else verbose, logging.DEBUG))
    logger.propagate = False


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code. Errors raised on purpose are told in their own words, without a traceback."""
    try:
        result = safeflux.main(args=list(arguments), prog_name="safeflux", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("safeflux: interrupted", err=True)
        return 130
    except SafeFluxError as error:
        tell(error, str(error))
        return error.exit_code
    except ImportError as error:
        tell(error, f'{error}; this command needs what `pip install "safeflux[release]"` brings')
        return 3
    except Exception:  # a defect; Python's own exit code would be 1, which says that a model did not pass
        traceback.print_exc()
        return 3
    return result if isinstance(result, int) else 0


def tell(error: Exception, text: str) -> None:
    """``text`` on stderr; instead of it the traceback of ``error``, for those who asked for that."""
    if logging.getLogger("safeflux").level == logging.DEBUG or os.environ.get("SAFEFLUX_TRACEBACK"):
        traceback.print_exception(error)
    else:
        click.echo(text if "\n" in text else f"safeflux: {text}", err=True)


def main() -> None:
    """The ``safeflux`` program."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
