"""A release is what the policy asks for, whatever happens to the process that makes it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
import release_fakes as fakes

from safeflux import files
from safeflux.errors import PlanError, WorkspaceError
from safeflux.files import tree
from safeflux.release import release
from safeflux.verify import verify
from safeflux.workspace import open_workspace
from safeflux_signing import keys
from safeflux_signing.signers import KeySigner

EPOCH = "1700000000"
releases = sys.modules["safeflux.release"]


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    monkeypatch.setattr(fakes, "hits", 1)
    fakes.calls.clear()
    with fakes.faked():
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy file beside its base model and its key, and in ``run`` a release made from it in one go."""
    directory = tmp_path_factory.mktemp("home")
    fakes.write_base(directory / "base")
    keys.new(directory / "publisher.key", None)
    (directory / "policy.yaml").write_text(fakes.POLICY)
    with pytest.MonkeyPatch.context() as patch, fakes.faked():
        patch.setenv("SOURCE_DATE_EPOCH", EPOCH)
        release(directory / "policy.yaml", out=directory / "run")
    return directory


@pytest.fixture
def policy(home: Path, tmp_path: Path) -> Path:
    """The same policy, base model and key elsewhere, and nothing released yet."""
    shutil.copytree(home, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("run"))
    return tmp_path / "policy.yaml"


def done_again(policy: Path, out: Path, old: str, new: str) -> set[str]:
    """What a second release does after ``old`` in the policy has become ``new``."""
    release(policy, out=out)
    fakes.calls.clear()
    text = policy.read_text()
    assert old in text
    policy.write_text(text.replace(old, new))
    release(policy, out=out)
    return set(fakes.calls)


def test_release_passes_verifies_and_holds_what_it_should(policy: Path, tmp_path: Path) -> None:
    result = release(policy, out=tmp_path / "run")
    assert (result.verdict, result.signed, result.release_dir) == ("passed", True, tmp_path / "run" / "release")
    assert result.public_key == tmp_path / "publisher.pub"
    made = tree(result.release_dir)
    for name in ("vae/weights.safetensors", "vae/config.json", "LICENSE"):
        assert (result.release_dir / name).read_bytes() == (tmp_path / "base" / name).read_bytes()
    reports = {"README.md", "erasure_report.json", "erasure_report.html", "policy.lock.yaml", "claims.jsonl", "model.sig"}
    model = {"model_index.json", "transformer/config.json", "transformer/weights.safetensors", "vae/config.json", "vae/weights.safetensors"}
    assert set(made) == reports | model | {"LICENSE"}
    verified = verify(result.release_dir, [keys.load_public(result.public_key)])
    assert verified.release is not None
    assert verified.release.release_id.startswith("tiny-1.0-")
    assert sorted(claim.predicate_type.rsplit("/", 1)[0] for claim in verified.claims if claim.required) == [
        "https://in-toto.io/attestation/test-result",
        "https://slsa.dev/provenance",
        "urn:safeflux:commitment:v1",
        "urn:safeflux:erasure-report:v1",
    ]


def test_nothing_of_the_publishers_machine_is_published(policy: Path, tmp_path: Path) -> None:
    result = release(policy, out=tmp_path / "run")
    for name in tree(result.release_dir):
        text = (result.release_dir / name).read_bytes()
        assert str(tmp_path).encode() not in text, name
        assert b"publisher.key" not in text, name


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


def test_same_policy_and_key_give_the_same_bytes_elsewhere(policy: Path, home: Path, tmp_path: Path) -> None:
    assert tree(release(policy, out=tmp_path / "b" / "c").release_dir) == tree(home / "run" / "release")


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


def test_without_a_key_it_stops_before_anything_is_prepared(policy: Path, tmp_path: Path) -> None:
    policy.write_text(fakes.POLICY.replace("signing: {key: publisher.key}\n", ""))
    with pytest.raises(PlanError, match="safeflux keys new"):
        release(policy, out=tmp_path / "run")
    assert not fakes.calls
    given = release(policy, out=tmp_path / "run", key=tmp_path / "publisher.key")
    assert given.public_key == tmp_path / "publisher.pub"


def test_whoever_holds_a_key_signs_it(policy: Path, tmp_path: Path) -> None:
    """A key that lies in no file, such as one on a token."""
    policy.write_text(fakes.POLICY.replace("signing: {key: publisher.key}\n", ""))
    signer = KeySigner(keys.KINDS["ed25519"].make())
    made = release(policy, out=tmp_path / "run", key=signer)
    assert made.public_key is None
    signed = verify(made.release_dir, [signer.public_key()]).release
    assert signed is not None
    assert signed.name == made.report.name


def test_a_key_that_cannot_be_read_stops_it_too(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "publisher.key").write_text("no key")
    with pytest.raises(PlanError, match=r"publisher\.key"):
        release(policy, out=tmp_path / "run")
    assert not fakes.calls


def test_a_date_that_is_none_stops_it_before_anything_is_prepared(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(PlanError, match="yesterday"):
        release(policy, out=tmp_path / "run")
    assert not fakes.calls


def test_without_a_date_it_bears_that_of_its_first_start(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    before = tree(release(policy, out=tmp_path / "run").release_dir)
    shutil.rmtree(tmp_path / "run" / "release")
    shutil.rmtree(tmp_path / "run" / "work" / "report")
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert tree(release(policy, out=tmp_path / "run").release_dir) == before


def test_base_model_that_is_not_here_is_downloaded_without_its_second_copy(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    policy.write_text(fakes.POLICY.replace("model: ./base", f"model: owner/flux, revision: {revision}"))
    asked: list[dict[str, object]] = []

    def snapshot_download(model: str, **options: object) -> None:
        asked.append(options)
        shutil.copytree(tmp_path / "base", tmp_path / "cache" / "models--owner--flux" / "snapshots" / revision)

    hub = type(sys)("huggingface_hub")
    hub.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    result = release(policy, out=tmp_path / "run")
    assert [one["revision"] for one in asked] == [revision]
    [patterns] = [one["allow_patterns"] for one in asked]
    wanted = ("transformer/config.json", "text_encoder_2/a.safetensors", "model_index.json")
    assert [any(fnmatch(name, p) for p in patterns) for name in wanted] == [True] * 3  # type: ignore[attr-defined]
    assert not any(fnmatch("flux1-schnell.safetensors", p) for p in patterns)  # type: ignore[attr-defined]
    assert json.loads((result.release_dir / "erasure_report.json").read_text())["base"]["model"] == "owner/flux"


def test_demo_key_is_made_once_and_said_loudly_to_be_worthless(policy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    policy.write_text(fakes.POLICY.replace("key: publisher.key", "demo: true"))
    for _ in range(2):
        with caplog.at_level(logging.WARNING, "safeflux"):
            result = release(policy, out=tmp_path / "run")
        assert "THROW-AWAY" in caplog.text
        caplog.clear()
    assert result.public_key == tmp_path / "run" / "work" / "demo.pub"
    assert (tmp_path / "run" / "work" / "demo.key").stat().st_mode & 0o077 == 0
    verify(result.release_dir, [keys.load_public(result.public_key)])
    assert fakes.calls["erase"] == 1


def test_failing_model_is_left_unsigned_where_nobody_publishes_it(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fakes, "hits", 60)
    result = release(policy, out=tmp_path / "run")
    assert (result.verdict, result.signed, result.release_dir) == ("failed", False, tmp_path / "run" / "unsigned")
    assert not (tmp_path / "run" / "release").exists()
    assert "erasure_report.json" in tree(result.release_dir)
    assert not {"model.sig", "claims.jsonl"} & tree(result.release_dir).keys()
    fakes.calls.clear()
    signed = release(policy, out=tmp_path / "run", allow_failing=True)
    assert not fakes.calls
    assert (signed.verdict, signed.signed) == ("failed", True)
    assert not (tmp_path / "run" / "unsigned").exists()
    verified = verify(signed.release_dir, [keys.load_public(tmp_path / "publisher.pub")])
    said = {claim.predicate_type: claim.predicate for claim in verified.claims}
    assert said["https://in-toto.io/attestation/test-result/v0.1"]["result"] == "FAILED"  # type: ignore[index, call-overload]
    assert said["urn:safeflux:erasure-report:v1"]["verdict"] == "failed"  # type: ignore[index, call-overload]


def test_old_release_stays_when_a_new_one_fails(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(release(policy, out=tmp_path / "run").release_dir)
    monkeypatch.setattr(fakes, "hits", 60)
    policy.write_text(fakes.POLICY.replace("images: 120", "images: 121"))
    assert not release(policy, out=tmp_path / "run").signed
    assert tree(tmp_path / "run" / "release") == before


def test_two_releases_into_one_directory_are_refused(policy: Path, tmp_path: Path) -> None:
    with open_workspace(tmp_path / "run"), pytest.raises(WorkspaceError, match="another run"):
        release(policy, out=tmp_path / "run")


def test_foreign_files_are_found_before_anything_is_done(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "release").mkdir(parents=True)
    (tmp_path / "run" / "release" / "thesis.tex").write_text("years")
    with pytest.raises(WorkspaceError, match=r"thesis\.tex"):
        release(policy, out=tmp_path / "run")
    assert not fakes.calls
    assert (tmp_path / "run" / "release" / "thesis.tex").read_text() == "years"


def test_progress_names_each_stage_and_comes_to_its_end(policy: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    release(policy, out=tmp_path / "run", progress=lambda *step: seen.append(step))
    assert [what for what, done, total in seen if done == 1 and what in fakes.STAGES] == list(fakes.STAGES)
    assert ("erase: updates", 4, 4) in seen
    seen.clear()
    release(policy, out=tmp_path / "run", progress=lambda *step: seen.append(step))
    assert [what for what, done, _ in seen if done] == [f"{stage} (kept)" for stage in fakes.STAGES]


def test_report_says_what_was_done(policy: Path, tmp_path: Path) -> None:
    report = json.loads((release(policy, out=tmp_path / "run").release_dir / "erasure_report.json").read_text())
    assert report["verdict"] == "passed"
    assert report["base"]["model"] == "base"
    assert report["edit"]["sites"] == [{"site": "ff", "units": 8, "removed": 4}]
    assert report["bake"]["relative_error"] <= report["bake"]["tolerance"]
    assert report["method"]["options"]["updates"] == 300  # what the real method would have used
    assert any("ring-a-bell" in sentence for sentence in report["not_tested"])
