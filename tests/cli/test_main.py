"""The command line: what it lists, how errors leave, how loud it is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from safeflux import errors
from safeflux_cli import main


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    logger = logging.getLogger("safeflux")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A command ``try`` that does what the dictionary's "does" does."""
    does: dict[str, object] = {"does": lambda: None}
    module = type(main)("tried_command")

    @click.command("try")
    def attempt() -> object:
        return does["does"]()  # type: ignore[operator]

    module.attempt = attempt  # type: ignore[attr-defined]
    monkeypatch.setitem(main.sys.modules, "tried_command", module)
    monkeypatch.setitem(main.COMMANDS, "try", ("tried_command:attempt", "Try."))
    return does


def fails(error: BaseException) -> object:
    def raising() -> None:
        raise error

    return raising


def test_every_command_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--help"]) == 0
    out = capsys.readouterr().out
    for name, (_, said) in main.COMMANDS.items():
        assert name in out
        assert said in out
    assert {"release", "plan", "policy", "verify", "keys"} <= set(main.COMMANDS)


@pytest.mark.parametrize("name", ["release", "plan", "policy", "verify", "keys"])
def test_every_command_is_there(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([name, "--help"]) == 0
    assert f"safeflux {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "code"),
    [(errors.PlanError, 3), (errors.OptionError, 2), (errors.RegistryError, 2), (errors.StageError, 3), (errors.TrustError, 1)],
)
def test_errors_leave_in_their_own_words(
    kind: type[errors.SafeFluxError], code: int, command: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    command["does"] = fails(kind("what came; what to do"))
    assert main.run(["try"]) == code
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "safeflux: what came; what to do\n")


def test_many_problems_stand_line_by_line(command: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    command["does"] = fails(errors.PolicyError(["p.yaml:1:1: a", "p.yaml:2:1: b"]))
    assert main.run(["try"]) == 2
    assert capsys.readouterr().err == "p.yaml:1:1: a\np.yaml:2:1: b\n"


@pytest.mark.parametrize("loud", ["-vv", "environment"])
def test_tracebacks_are_for_those_who_ask(
    loud: str, command: dict[str, object], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command["does"] = fails(errors.StageError("broken"))
    if loud == "environment":
        monkeypatch.setenv("SAFEFLUX_TRACEBACK", "1")
    assert main.run(["-vv", "try"] if loud == "-vv" else ["try"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_a_defect_never_looks_like_a_verdict(command: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    """Python leaves with 1, which here means that a model did not pass."""
    command["does"] = fails(ZeroDivisionError("oh"))
    assert main.run(["try"]) == 3
    assert "ZeroDivisionError: oh" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(ZeroDivisionError("oh"), 1), (KeyboardInterrupt(), 130), (click.UsageError("no"), 2)])
def test_a_defect_of_verify_has_the_code_that_it_has_for_no_verdict(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("safeflux_cli.verify._check_usage", lambda *_: fails(error)())  # type: ignore[operator]
    assert main.run(["verify", str(tmp_path)]) == code
    assert "Traceback" not in capsys.readouterr().err
    assert main.run(["-vv", "verify", str(tmp_path)]) == code
    assert ("Traceback" in capsys.readouterr().err) == (code == 1)


def test_what_is_not_installed_is_named(command: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    command["does"] = fails(ModuleNotFoundError("No module named 'torch'"))
    assert main.run(["try"]) == 3
    assert "No module named 'torch'; this command needs what `pip install \"safeflux[release]\"` brings" in capsys.readouterr().err


def test_interrupting_says_so(command: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    command["does"] = fails(KeyboardInterrupt())
    assert main.run(["try"]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1), ("text", 0)])
def test_a_number_that_a_command_returns_is_the_exit_code(returned: object, code: int, command: dict[str, object]) -> None:
    command["does"] = lambda: returned
    assert main.run(["try"]) == code


def test_a_command_may_exit_by_itself(command: dict[str, object]) -> None:
    command["does"] = lambda: click.get_current_context().exit(13)
    assert main.run(["try"]) == 13


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["-v", "-q", "try"], ["plan"]])
def test_wrong_usage(arguments: list[str], command: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(arguments) == 2
    assert "Usage: safeflux" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("loudness", "heard"),
    [
        (["-q"], {"error"}),
        ([], {"error", "warning"}),
        (["-v"], {"error", "warning", "info"}),
        (["-vv"], {"error", "warning", "info", "debug"}),
    ],
)
def test_loudness(loudness: list[str], heard: set[str], command: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("safeflux.somewhere")

    def speak() -> None:
        for level in ("debug", "info", "warning", "error"):
            getattr(log, level)(f"<{level}>")

    command["does"] = speak
    assert main.run([*loudness, "try"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert {level for level in ("debug", "info", "warning", "error") if f"<{level}>" in said.err} == heard


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("safeflux")


def test_the_program_leaves_with_the_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(main.sys, "argv", ["safeflux", "policy", "check", str(tmp_path / "none.yaml")])
    with pytest.raises(SystemExit) as leaving:
        main.main()
    assert leaving.value.code == 2
