"""``safeflux release`` as a person sees it. The stages that need torch are faked."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # the fakes serve two directories of tests
import release_fakes as fakes

from safeflux_cli.main import run
from safeflux_cli.making import cores
from safeflux_signing import keys


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(fakes, "hits", 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    fakes.calls.clear()
    fakes.write_base(tmp_path / "base")
    keys.new(tmp_path / "publisher.key", None)
    (tmp_path / "policy.yaml").write_text(fakes.POLICY)
    logger = logging.getLogger("safeflux")
    before = (logger.handlers[:], logger.level, logger.propagate)
    with fakes.faked():
        yield
    logger.handlers[:], logger.level, logger.propagate = before


def test_says_the_verdict_what_it_rests_on_and_a_verify_command_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["release", "policy.yaml"]) == 0
    out, err = capsys.readouterr()
    assert "tiny 1.0: PASSED" in out
    row = next(line for line in out.splitlines() if "sword" in line)
    assert [cell for cell in row.split("  ") if cell.strip()][-1].strip() == "passed"
    assert "99.2%" in row  # the base model, beside
    assert "0.8%" in row  # the erased one
    assert [line.split(",")[0] for line in err.splitlines() if ": done" in line] == [f"{stage}: done" for stage in fakes.STAGES]
    command = next(line for line in out.splitlines() if line.startswith("Verify")).split()[2:]
    assert command[:3] == ["verify", "runs/tiny/release", "--key"]
    assert Path(command[3]).name == "publisher.pub"
    assert run(command) == 0


def test_second_run_says_what_was_kept(capsys: pytest.CaptureFixture[str]) -> None:
    run(["release", "policy.yaml"])
    capsys.readouterr()
    assert run(["release", "policy.yaml"]) == 0
    assert "erase: kept" in capsys.readouterr().err


def test_dry_run_prints_the_plan_and_does_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["release", "policy.yaml", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert run(["plan", "policy.yaml"]) == 0
    assert shown == capsys.readouterr().out
    assert run(["release", "policy.yaml", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["policy"]["name"] == "tiny"
    assert not (tmp_path / "runs").exists()
    assert not fakes.calls


def test_json_is_one_object_and_all_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["release", "policy.yaml", "--out", "here", "--json"]) == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert (said["verdict"], said["signed"], said["directory"]) == ("passed", True, "here/release")
    assert Path(said["public_key"]).name == "publisher.pub"
    assert said["report"]["findings"]
    assert err == ""


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["release", "policy.yaml", "-q"]) == 0
    assert run(["-q", "release", "policy.yaml"]) == 0
    assert capsys.readouterr() == ("", "")


def test_verbose_tells_more(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["release", "policy.yaml", "-v"]) == 0
    assert "erase: 2 files under key " in capsys.readouterr().err


def test_failing_model_exits_1_and_says_where_it_lies(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fakes, "hits", 60)
    assert run(["release", "policy.yaml"]) == 1
    out = capsys.readouterr().out
    assert "FAILED" in out
    assert "runs/tiny/unsigned" in out
    assert not Path("runs/tiny/release").exists()
    assert run(["release", "policy.yaml", "--allow-failing"]) == 1
    assert "safeflux verify runs/tiny/release" in capsys.readouterr().out


def test_interrupted_it_says_what_is_kept_and_goes_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["safeflux.bake"], "bake", interrupted)
        assert run(["release", "policy.yaml"]) == 130
    said = capsys.readouterr().err
    assert "Kept in runs/tiny/work: plan, commit, prepare, erase;" in said
    assert "The same command goes on" in said
    fakes.calls.clear()
    assert run(["release", "policy.yaml"]) == 0
    assert "erase" not in fakes.calls


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["missing.yaml"], 2, "missing.yaml"),
        (["policy.yaml", "-v", "-q"], 2, "exclude"),
        (["policy.yaml", "--threads", "0"], 2, "threads"),
        (["policy.yaml", "--key", "nowhere.key"], 3, "nowhere.key"),
        (["policy.yaml", "--out", "base/vae/config.json"], 2, "config.json"),
        (["keyless.yaml"], 3, "safeflux keys new"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_done(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("keyless.yaml").write_text(fakes.POLICY.replace("signing: {key: publisher.key}\n", ""))
    assert run(["release", *arguments]) == code
    assert says in capsys.readouterr().err
    assert not fakes.calls


def test_encrypted_key_takes_its_passphrase_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.new(Path("locked.key"), b"open sesame")
    assert run(["release", "policy.yaml", "--key", "locked.key"]) == 3
    assert "passphrase" in capsys.readouterr().err
    assert not fakes.calls
    monkeypatch.setenv("PASS", "open sesame")
    assert run(["release", "policy.yaml", "--key", "locked.key", "--passphrase-env", "PASS"]) == 0
    assert "--key locked.pub" in capsys.readouterr().out


def test_threads_are_set_before_torch_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    run(["release", "policy.yaml", "-q"])
    assert os.environ["OMP_NUM_THREADS"] == "1"  # what stands there is left alone
    run(["release", "policy.yaml", "-q", "--threads", "3"])
    assert os.environ["OMP_NUM_THREADS"] == "3"
    monkeypatch.delenv("OMP_NUM_THREADS")
    run(["release", "policy.yaml", "-q"])
    assert os.environ["OMP_NUM_THREADS"] == str(cores())
    assert 1 <= cores() <= (os.cpu_count() or 1)
