"""A release is what the policy asks for, and nothing else."""

from __future__ import annotations

import json
import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import release_fakes as fakes

from safeflux.errors import PlanError, WorkspaceError
from safeflux.files import tree
from safeflux.release import release
from safeflux.verify import verify
from safeflux.workspace import open_workspace
from safeflux_signing import keys


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


def test_same_policy_and_key_give_the_same_bytes_elsewhere(policy: Path, home: Path, tmp_path: Path) -> None:
    assert tree(release(policy, out=tmp_path / "b" / "c").release_dir) == tree(home / "run" / "release")


def test_what_the_plan_notes_is_told_when_a_release_begins_and_not_again(
    policy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "base" / "tokenizer").mkdir()
    (tmp_path / "base" / "tokenizer" / "tokenizer.json").write_text("{}")
    index = tmp_path / "base" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"tokenizer": ["transformers", "CLIPTokenizer"]}))
    for notes in (1, 0):
        caplog.clear()
        release(policy, out=tmp_path / "run")
        assert sum("transformers 4 does not read the base's tokenizer," in message for message in caplog.messages) == notes


def test_a_date_that_is_none_stops_it_before_anything_is_prepared(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(PlanError, match="yesterday"):
        release(policy, out=tmp_path / "run")
    assert not fakes.calls


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
