"""A second run, after a whole one, one that was killed, or one of something else: it redoes what is not as it must be, and only that."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import release_fakes as fakes

from safeflux import files
from safeflux.files import tree
from safeflux.release import release

releases = sys.modules["safeflux.release"]


def done_again(policy: Path, out: Path, old: str, new: str) -> set[str]:
    """What a second release does after ``old`` in the policy has become ``new``."""
    release(policy, out=out)
    fakes.calls.clear()
    text = policy.read_text()
    assert old in text
    policy.write_text(text.replace(old, new))
    release(policy, out=out)
    return set(fakes.calls)


def test_second_run_does_nothing(policy: Path, tmp_path: Path) -> None:
    first = release(policy, out=tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in first.release_dir.rglob("*")}
    fakes.calls.clear()
    assert release(policy, out=tmp_path / "run") == first
    assert not fakes.calls
    assert {path: path.stat().st_mtime_ns for path in first.release_dir.rglob("*")} == before


@pytest.mark.parametrize("stage", fakes.STAGES)
def test_killed_in_any_stage_it_ends_like_one_that_was_not(policy: Path, home: Path, tmp_path: Path, stage: str) -> None:
    command = [sys.executable, fakes.__file__, str(policy), str(tmp_path / "run"), stage]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "run" / "release").exists()
    assert tree(release(policy, out=tmp_path / "run").release_dir) == tree(home / "run" / "release")
    finished = fakes.STAGES[: fakes.STAGES.index(stage)]
    assert not fakes.calls.keys() & set(finished)  # what the first run finished was kept
    assert not list((tmp_path / "run" / "work").glob("*.partial-*"))


def test_killed_within_the_training_it_goes_on_from_its_own_checkpoint(policy: Path, home: Path, tmp_path: Path) -> None:
    command = [sys.executable, fakes.__file__, str(policy), str(tmp_path / "run")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "DIE_IN_UPDATE": "2"}
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert tree(release(policy, out=tmp_path / "run").release_dir) == tree(home / "run" / "release")
    assert fakes.calls["updates"] == 2


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("license: Apache-2.0", "license: MIT", {"audit"}),  # of the pictures that are there: the policy is fixed anew
        ("preset: quick, attacks: [none]", "preset: standard, attacks: [none]", {"audit"}),  # says nothing beside a number of images
        ("detection: 0.10", "detection: 0.20", {"erase", "updates", "bake", "audit", "draw"}),  # what is trained to
        ("images: 120", "images: 121", {"audit", "draw"}),
        ("method: mask", "method: {mask: {updates: 5}}", {"erase", "updates", "bake", "audit", "draw"}),
        ("seed: 7", "seed: 8", {"prepare", "erase", "updates", "bake", "audit", "draw"}),
        ("anchor: a shape", "anchor: a circle", {"prepare", "erase", "updates", "bake", "audit", "draw"}),
    ],
)
def test_changed_policy_redoes_what_depends_on_it_and_only_that(
    policy: Path, tmp_path: Path, old: str, new: str, expected: set[str]
) -> None:
    assert done_again(policy, tmp_path / "run", old, new) == expected


def test_changed_base_model_redoes_everything(policy: Path, tmp_path: Path) -> None:
    release(policy, out=tmp_path / "run")
    fakes.calls.clear()
    (tmp_path / "base" / "vae" / "weights.safetensors").write_text("another vae")
    result = release(policy, out=tmp_path / "run")
    assert set(fakes.calls) == {"prepare", "erase", "updates", "bake", "audit", "draw"}
    assert (result.release_dir / "vae" / "weights.safetensors").read_text() == "another vae"


def test_changed_code_redoes_the_stages_that_run_it(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release(policy, out=tmp_path / "run")
    fakes.calls.clear()
    real = files.source_digest
    monkeypatch.setattr(files, "source_digest", lambda *paths: real(*paths) + str([p for p in paths if p.name == "bake.py"]))
    release(policy, out=tmp_path / "run")
    assert fakes.calls["bake"] == 1
    assert fakes.calls["audit"] == 1


def test_every_part_of_the_code_that_a_key_names_is_there() -> None:
    package = Path(releases.__file__).parent
    missing = [(stage, pattern) for stage, patterns in releases.CODE.items() for pattern in patterns if not list(package.glob(pattern))]
    assert missing == []


@pytest.mark.parametrize("file", ["prepare/prompts.json", "erase/edit.safetensors", "bake/dense/transformer/weights.safetensors"])
def test_tampered_work_is_made_again(policy: Path, tmp_path: Path, file: str) -> None:
    expected = tree(release(policy, out=tmp_path / "run").release_dir)
    fakes.calls.clear()
    (tmp_path / "run" / "work" / file).write_text("something else")
    assert tree(release(policy, out=tmp_path / "run").release_dir) == expected
    assert set(fakes.calls) - {"updates"} == {file.split("/")[0]}


def test_without_a_date_it_bears_that_of_its_first_start(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    before = tree(release(policy, out=tmp_path / "run").release_dir)
    shutil.rmtree(tmp_path / "run" / "release")
    shutil.rmtree(tmp_path / "run" / "work" / "report")
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert tree(release(policy, out=tmp_path / "run").release_dir) == before


def test_old_release_stays_when_a_new_one_fails(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(release(policy, out=tmp_path / "run").release_dir)
    monkeypatch.setattr(fakes, "hits", 60)
    policy.write_text(fakes.POLICY.replace("images: 120", "images: 121"))
    assert not release(policy, out=tmp_path / "run").signed
    assert tree(tmp_path / "run" / "release") == before
