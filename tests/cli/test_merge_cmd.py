"""``safeflux merge`` as a person sees it. The stages that need torch are faked."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # the fakes serve two directories of tests
import release_fakes as fakes

from safeflux.policy import load_policy
from safeflux_cli.main import run
from safeflux_signing import keys


@pytest.fixture(autouse=True)
def _two_releases(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    fakes.write_base(tmp_path / "base")
    keys.new(tmp_path / "publisher.key", None)
    with fakes.faked():
        for name in ("one", "two"):
            (tmp_path / "policy.yaml").write_text(fakes.POLICY.replace("name: tiny", f"name: {name}"))
            assert run(["-q", "release", "policy.yaml"]) == 0
        yield


MERGE = ["merge", "runs/one/release", "runs/two/release", "--base", "./base", "--key", "publisher.key"]


def test_two_releases_become_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(MERGE) == 0
    assert "one-two 1.0: PASSED" in capsys.readouterr().out
    policy = load_policy("runs/one-two/policy.yaml")
    assert [Path(one).parent.name for one in policy.base.merges] == ["one", "two"]
    assert run(["release", "runs/one-two/policy.yaml", "--out", "runs/one-two", "--key", "publisher.key"]) == 0
    assert "erase: kept" in capsys.readouterr().err


def test_dry_run_writes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run([*MERGE, "--out", "new", "--dry-run"]) == 0
    assert "Merges        one, two: what they erased is where the training starts" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()


def test_a_policy_that_was_changed_is_not_written_over(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "policy.yaml").write_text("mine")
    assert run([*MERGE, "--out", "out"]) == 2
    assert "out/policy.yaml is there and says otherwise" in capsys.readouterr().err
    assert (tmp_path / "out" / "policy.yaml").read_text() == "mine"


def test_what_withholds_its_base_says_which_option_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["merge", "runs/one/release", "runs/two/release"]) == 3
    assert "name it with --base" in capsys.readouterr().err
