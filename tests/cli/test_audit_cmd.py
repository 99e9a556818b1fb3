"""``safeflux audit``: what it prints, and how it ends."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from report_example import example

from safeflux import report
from safeflux.audit_store import Spent
from safeflux.errors import StageError
from safeflux.examine import Examined
from safeflux.types import Report
from safeflux_cli.main import run

SUBJECT = {"name": "model", "digest": {"sha256": "0" * 64, "dirHash1": "1" * 64}}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The command with ``examine`` replaced; what it was asked for. ``made``: what it is to answer with, or to raise."""
    given: dict[str, Any] = {"made": example(subject=SUBJECT)}

    def examine(model: Path, policy: Path, **options: Any) -> Examined:
        given.update(options, model=model, policy=policy)
        options["progress"]("audit: base model, none", 1, 2)
        made = given["made"]
        if not isinstance(made, Report):
            raise made
        return Examined(report.verdict(made), made, tmp_path, {("none", "base"): Spent(480, 12.6)})

    monkeypatch.setattr(importlib.import_module("safeflux.examine"), "examine", examine)
    (tmp_path / "model").mkdir()
    (tmp_path / "p.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return given


def test_prints_the_report_itself(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["audit", "model", "--policy", "p.yaml", "--base", "./base", "--preset", "standard", "--out", "o", "--jobs", "2", "--json"]
    assert run(words) == 0
    out = capsys.readouterr().out
    assert out == report.to_text(asked["made"])
    assert json.loads(out)["subject"] == SUBJECT
    told = {name: asked[name] for name in ("model", "policy", "base", "preset", "out", "jobs")}
    assert told == {"model": Path("model"), "policy": Path("p.yaml"), "base": "./base", "preset": "standard", "out": Path("o"), "jobs": 2}


def test_says_what_was_found_and_what_it_took(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "model", "--policy", "p.yaml"]) == 0
    said = capsys.readouterr().out
    assert "model by flux-mini-erased 1.0.0: PASSED" in said
    assert "captain comet   direct prompts" in said
    assert "direct prompts  base model          480       13" in said
    assert "erasure_report.json" in said


def test_a_model_that_does_not_pass_ends_with_1(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    asked["made"] = example(subject=SUBJECT, concepts=(*example().concepts, "gun"))
    assert run(["audit", "model", "--policy", "p.yaml", "-q"]) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("made", "code", "said"), [
    (StageError("the embedder cannot be loaded"), 3, "the embedder cannot be loaded"), (KeyboardInterrupt(), 130, "goes on from there"),
])  # fmt: skip
def test_what_could_not_be_done(
    asked: dict[str, Any], made: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked["made"] = made
    assert run(["audit", "model", "--policy", "p.yaml"]) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [["model"], ["nowhere", "--policy", "p.yaml"], ["model", "--policy", "p.yaml", "--preset", "huge"]])
@pytest.mark.usefixtures("asked")
def test_wrong_usage(words: list[str]) -> None:
    assert run(["audit", *words]) == 2


def test_a_wrong_policy_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.yaml").write_text("safeflux: 2\n")
    assert run(["audit", str(tmp_path), "--policy", str(tmp_path / "p.yaml"), "--json"]) == 2
    assert "p.yaml:1:11" in capsys.readouterr().err
