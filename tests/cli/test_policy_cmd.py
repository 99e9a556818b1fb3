"""``safeflux policy`` and ``safeflux plan``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from safeflux.policy import load_policy, schema, templates
from safeflux_cli.main import run

ROOT = Path(__file__).resolve().parent.parent.parent
DEMO = ROOT / "policies" / "demo.yaml"
NUDITY = ROOT / "policies" / "nudity.yaml"
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    file = tmp_path / "wrong.yaml"
    file.write_text(re.sub(r"method: .*", "method: masc", DEMO.read_text("utf-8").replace("seed: 7", "sede: 7")), "utf-8")
    return file


def test_check_says_what_is_good(capsys: Captured) -> None:
    assert run(["policy", "check", str(DEMO)]) == 0
    assert capsys.readouterr().out == f"{DEMO}: good. demo 1.0 erases sword, neon, captain comet from builtin:flux-mini.\n"


def test_check_says_all_that_is_wrong(wrong: Path, capsys: Captured) -> None:
    assert run(["policy", "check", str(wrong)]) == 2
    said = capsys.readouterr()
    first, second = said.err.splitlines()
    assert said.out == ""
    assert first.startswith(f"{wrong}:")
    assert 'sede: came the unknown key "sede"' in first
    assert 'method: came the text "masc"' in second


def test_check_for_machines(wrong: Path, capsys: Captured) -> None:
    assert run(["policy", "check", str(DEMO), "--json"]) == 0
    good = json.loads(capsys.readouterr().out)
    assert (good["ok"], good["problems"], good["digest"]) == (True, [], load_policy(DEMO).digest)
    assert run(["policy", "check", str(wrong), "--json"]) == 2
    bad = capsys.readouterr()
    assert bad.err == ""
    assert [json.loads(bad.out)["ok"], len(json.loads(bad.out)["problems"])] == [False, 2]


def test_schema_is_printed(capsys: Captured) -> None:
    assert run(["policy", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


def test_new_lists_what_there_is(capsys: Captured) -> None:
    assert run(["policy", "new"]) == 0
    assert [line.split(" ")[0] for line in capsys.readouterr().out.splitlines()] == list(templates())


@pytest.mark.parametrize("name", list(templates()))
def test_new_starts_a_good_policy(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["policy", "new", "--template", name]) == 0
    assert run(["policy", "check", f"{name}.yaml"]) == 0
    assert run(["policy", "new", "--template", name, "mine.yaml"]) == 0
    assert (tmp_path / "mine.yaml").read_bytes() == (ROOT / "policies" / f"{name}.yaml").read_bytes()


def test_new_writes_over_nothing(tmp_path: Path, capsys: Captured) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("mine", "utf-8")
    assert run(["policy", "new", "--template", "demo", str(mine)]) == 2
    assert mine.read_text("utf-8") == "mine"
    assert f"{mine} is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--template", "demmo", "x.yaml"], "there is no template 'demmo'; there is demo"),
        (["x.yaml"], "which template? --template demo or"),
        (["--template", "demo", "no/such/folder/x.yaml"], "cannot be written: No such file or directory"),
    ],
)
def test_new_says_what_it_needs(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["policy", "new", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_plan_for_people_and_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert run(["plan", str(NUDITY)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Release       flux1-schnell-nudity 1.0")
    assert "11,891,178,560 parameters" in text
    assert run(["plan", str(NUDITY), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["policy"]["digest"] == load_policy(NUDITY).digest
    assert f"{data['evaluations']:,}" in text


def test_plan_refuses_an_audit_that_is_too_small(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(NUDITY.read_text("utf-8").replace("preset: full", "images: 20"), "utf-8")
    assert run(["plan", str(file)]) == 3
    said = capsys.readouterr().err
    assert "detection: 20 pictures can never show the limit 0.05 at 0.95 confidence" in said
    assert "at least 59" in said
