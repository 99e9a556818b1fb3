"""The README is a contract: its help texts are the real ones, its examples name what there is.

Run as a program, this file writes the help texts into the README anew.
"""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import safeflux as package
from safeflux.policy import load_policy
from safeflux.policy.load import read_policy
from safeflux_cli.main import safeflux

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
HELP = re.compile(r"(?<=<!-- help: )(safeflux[a-z ]*)( -->\n```text\n)(.*?)(?=```)", re.DOTALL)
WIDTH = 80


def help_of(command: str) -> str:
    result = CliRunner().invoke(safeflux, [*command.split()[1:], "--help"], prog_name="safeflux", terminal_width=WIDTH)
    assert result.exit_code == 0, result.output
    return result.output


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("command", [found[0] for found in HELP.findall(TEXT)])
def test_help_text_is_what_the_program_prints(command: str) -> None:
    shown = {name.strip(): text for name, _, text in HELP.findall(TEXT)}
    assert shown[command] == help_of(command)


def test_the_demo_shown_is_the_demo_policy() -> None:
    """One line for every concept and way of asking, judged by the limits that the policy sets, and all of them passed."""
    policy = load_policy(ROOT / "policies" / "demo.yaml")
    shown = TEXT.partition("<!-- demo output: begin -->")[2].partition("<!-- demo output: end -->")[0]
    rows = [re.split(r"  +", line.strip()) for line in shown.splitlines() if line.endswith(("passed", "failed", "unchecked"))]
    names = [c.name for c in policy.concepts]
    assert [row[0] for row in rows] == [name for name in names for _ in range(1 + len(policy.audit.attacks))] + ["what must stay"]
    assert {row[-1] for row in rows} == {"passed"}
    ceilings = {"direct prompts": policy.limits.detection.value}
    for _, asked, measured, base, _, bound, limit, _ in rows:
        ceiling = measured == "concept shown"
        wanted = ceilings.get(asked, policy.limits.attack_success.value) if ceiling else policy.limits.retained.value * percent(base)
        assert percent(limit) == pytest.approx(wanted, abs=6e-4)
        assert (percent(bound) <= percent(limit)) == ceiling


def percent(cell: str) -> float:
    return float(cell.removesuffix("%")) / 100


def test_every_command_is_in_the_readme() -> None:
    shown = {found[0].removesuffix(" new") for found in HELP.findall(TEXT)}
    with click.Context(safeflux) as ctx:
        assert {f"safeflux {name}" for name in safeflux.list_commands(ctx)} <= shown


def test_commands_shown_are_commands_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for shown in ("runs/demo/release", "model"):
        (tmp_path / shown).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    lines = [line.split("&&")[-1].strip() for block in blocks("console") for line in block.splitlines()]
    ours = [shlex.split(line.partition(" > ")[0])[1:] for line in lines if line.startswith("safeflux ")]
    assert len(ours) >= 6
    for words in ours:
        with click.Context(safeflux) as ctx:
            group: click.Command | None = safeflux
            while isinstance(group, click.Group):
                group = group.get_command(ctx, words.pop(0))
            assert group is not None
            group.make_context(group.name, words, resilient_parsing=False)
    assert 'pip install -c constraints.txt -e ".[all]" && safeflux release policies/demo.yaml' in TEXT
    assert 'pip install -c constraints.txt -e ".[all]" && pytest' in TEXT


def test_python_examples_parse_and_use_what_is_exported() -> None:
    used = set()
    for block in blocks("python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "safeflux":
                used.add(node.attr)
    assert {"release", "load", "load_policy"} <= used <= set(package.__all__)


def test_policy_shown_is_a_good_one() -> None:
    [shown] = blocks("yaml")
    assert read_policy(shown.encode(), README).concepts[0].name == "sword"


def test_files_named_are_there() -> None:
    assert [name for name in re.findall(r"\]\(([A-Za-z./]+)\)", TEXT) if not (ROOT / name).exists()] == []
    assert (ROOT / "policies" / "demo.yaml").is_file()


if __name__ == "__main__":
    README.write_text(HELP.sub(lambda m: m[1] + m[2] + help_of(m[1]), TEXT), encoding="utf-8")
