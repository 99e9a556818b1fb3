"""A finished release gets more formats: checked like the first ones, in the report, under a newer signature; or stays as it is."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_release_tiny import POLICY, _coin

sys.path.insert(0, str(Path(__file__).parent / "signing"))  # the stand-in for Sigstore serves three directories of tests
from sigstore_fakes import ACME, Sigstore
from sigstore_services import Services, token, write_config

from safeflux import check, report
from safeflux.errors import PlanError, StageError, TrustError, WorkspaceError
from safeflux.files import tree
from safeflux.growing import grow
from safeflux.policy import Choice
from safeflux.release import release
from safeflux.train import goals
from safeflux.verify import verify
from safeflux_cli.main import run
from safeflux_signing import keys, sign
from safeflux_signing.keynames import SigstoreName
from safeflux_signing.signers import load
from safeflux_signing.trust import TrustedKey, TrustStore

__all__ = ["_coin"]
pytestmark = pytest.mark.usefixtures("_coin")
FP8 = Choice("fp8", {"keys": "diffusers"})


@pytest.fixture(scope="module")
def made(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed release of a tiny FLUX, in its workspace; read only."""
    from safeflux import registry

    root = tmp_path_factory.mktemp("made")
    (root / "policy.yaml").write_text(POLICY.format(model=tiny))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.BUILT_IN, "detector", registry.BUILT_IN["detector"] | {"coin": "test_release_tiny:coin"})
        registry._table.cache_clear()
        patch.setattr(check, "fresh", check.answer)
        patch.setattr(goals, "SURE", 6)
        release(root / "policy.yaml", out=root / "run", allow_failing=True)
    registry._table.cache_clear()
    return root


@pytest.fixture
def run_(made: Path, tmp_path: Path) -> Path:
    """The same workspace, to be changed."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"


def test_formats_are_added_checked_and_signed_with_a_higher_number(run_: Path, tiny: Path, tmp_path: Path) -> None:
    directory, key = run_ / "release", run_ / "work" / "demo.key"
    public = [keys.load_public(run_ / "work" / "demo.pub")]
    before, files = verify(directory, public), tree(directory)
    told: list[str] = []
    grown = grow(
        directory, [FP8, Choice("delta"), Choice("diffusers")], key=load(key), base=str(tiny), progress=lambda *step: told.append(step[0])
    )
    after = verify(directory, public)
    assert before.release is not None
    assert after.release is not None
    assert after.release.sequence == grown.sequence > before.release.sequence
    assert after.release.name == before.release.name
    assert after.release.release_id != before.release.release_id
    new = {"exports/fp8/model-fp8-e4m3fn.safetensors", "exports/delta/masks.safetensors"}
    assert tree(directory).keys() == files.keys() | new
    said = {"README.md", "erasure_report.json", "erasure_report.html", "model.sig", "claims.jsonl"}
    assert {name for name, digest in tree(directory).items() if files.get(name) != digest} == new | said
    assert all(path.stat().st_nlink == 1 for path in directory.rglob("*") if path.is_file())
    written = report.from_text((directory / "erasure_report.json").read_text())
    assert [one["format"] for one in written.exports] == ["fp8", "delta", "diffusers"]
    assert [one["weights_error"] == 0 for one in written.exports] == [False, True, True]
    assert "| fp8 |" in (directory / "README.md").read_text()
    assert sorted(c.predicate_type for c in after.claims if c.required) == sorted(c.predicate_type for c in before.claims if c.required)
    [claim] = [c.predicate for c in after.claims if "erasure-report" in c.predicate_type]
    assert claim == json.loads((directory / "erasure_report.json").read_text())
    assert "model-fp8-e4m3fn.safetensors" in told


def test_the_workspace_knows_and_keeps_it(run_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goals, "SURE", 6)
    grow(run_ / "release", [FP8], key=load(run_ / "work" / "demo.key"))
    before = tree(run_ / "release")
    release(run_.parent / "policy.yaml", out=run_, allow_failing=True)
    assert tree(run_ / "release") == before
    (run_ / "release" / "thesis.tex").write_text("years")
    with pytest.raises(TrustError, match=r"thesis\.tex"):
        grow(run_ / "release", [Choice("diffusers")], key=load(run_ / "work" / "demo.key"))


def test_a_release_without_its_workspace_grows_too(run_: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone, key = tmp_path / "downloaded" / "model", run_ / "work" / "demo.key"
    shutil.copytree(run_ / "release", alone)
    assert run(["export", str(alone), "--to", "single-file:keys=diffusers", "--key", str(key), "--json"]) == 0
    assert [one["weights_error"] for one in json.loads(capsys.readouterr().out)["exports"]] == [0]
    assert run(["verify", str(alone), "--key", str(key.with_suffix(".pub"))]) == 0
    assert [path.name for path in alone.parent.iterdir()] == ["model"]


def test_what_fails_its_check_leaves_the_release_as_it_was(run_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(run_ / "release")
    monkeypatch.setattr("safeflux.loaders.single_file.ROUNDED", {"fp8": 1e-9})
    with pytest.raises(StageError, match=r"fp8, loaded again by .* is not the model that was audited"):
        grow(run_ / "release", [FP8], key=load(run_ / "work" / "demo.key"))
    assert tree(run_ / "release") == before
    verify(run_ / "release", [keys.load_public(run_ / "work" / "demo.pub")])


def test_what_others_signed_does_not_stay_and_that_is_said(run_: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys.new(tmp_path / "auditor.key", None)
    auditor = load(tmp_path / "auditor.key")
    public = [keys.load_public(run_ / "work" / "demo.pub"), auditor.public_key()]
    alone = tmp_path / "alone"
    shutil.copytree(run_ / "release", alone)
    sign.add_claim(alone, auditor, public[:1], ("urn:acme:note:v1", {"said": "fine"}))
    with pytest.raises(TrustError, match="does not verify"):
        grow(alone, [FP8], key=load(run_ / "work" / "demo.key"))
    grow(alone, [FP8], key=load(run_ / "work" / "demo.key"), signed_by=public[1:])
    assert "urn:acme:note:v1 was signed by somebody else" in caplog.text
    assert not [claim for claim in verify(alone, public).claims if not claim.required]


def test_who_keeps_no_key_signs_anew_what_a_trust_file_knows_it_by(run_: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sigstore", reason="sigstore is not installed: pip install 'safeflux[sigstore]'")
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", token())
    services = Services(Sigstore()).attach(monkeypatch)
    keyless = load(SigstoreName(write_config(services.sigstore, tmp_path / "sigstore.json")))
    services.sigstore.write_root(tmp_path / "root.json")
    store = TrustStore(identities=(ACME,), sigstore_root="root.json", home=tmp_path)
    before = verify(run_ / "release", [keys.load_public(run_ / "work" / "demo.pub")])
    assert before.release is not None
    alone = tmp_path / "alone"
    shutil.copytree(run_ / "release", alone)
    line = (alone / "claims.jsonl").read_bytes().splitlines(keepends=True)[0]
    rest = [(one.predicate_type, one.predicate) for one in before.claims[1:]]
    by_key = replace(store, entries=(TrustedKey(keys.load_public(run_ / "work" / "demo.pub"), "Acme"),))
    sign.sign(alone, keyless, release_id=before.release.release_id, sequence=1, name=before.release.name, claims=rest, commitment=line)
    with pytest.raises(TrustError, match="name a trust file"):
        grow(alone, [FP8], key=keyless)
    with pytest.raises(TrustError, match="key-unknown"):
        grow(alone, [FP8], key=keyless, signed_by=store)
    grow(alone, [FP8], key=keyless, signed_by=by_key)
    after = verify(alone, by_key)
    assert after.identity == ACME
    assert [one.identity for one in after.claims] == [None, *[ACME] * len(rest)]


def test_what_cannot_be_added_is_refused_first(run_: Path, tiny: Path, tmp_path: Path) -> None:
    directory, key = run_ / "release", load(run_ / "work" / "demo.key")
    before = tree(directory)
    with pytest.raises(PlanError, match="does not say where that is; name it with --base"):
        grow(directory, [Choice("delta")], key=key)
    with pytest.raises(PlanError, match="32 wide, and readers of the original layout know 3072"):
        grow(directory, [Choice("single-file")], key=key)
    with pytest.raises(PlanError, match="the release was made from a base with digest"):
        grow(directory, [Choice("delta")], key=key, base=str(directory))
    keys.new(tmp_path / "other.key", None)
    with pytest.raises(TrustError, match="does not verify"):
        grow(directory, [FP8], key=load(tmp_path / "other.key"))
    assert tree(directory) == before
    grow(directory, [FP8], key=key)
    with pytest.raises(PlanError, match="has the format fp8 already"):
        grow(directory, [FP8], key=key)


def test_the_workspace_does_not_replace_what_it_did_not_make(tmp_path: Path) -> None:
    from safeflux.workspace import open_workspace

    with open_workspace(tmp_path) as space, pytest.raises(WorkspaceError, match="was not put there by this workspace"):
        space.amend("sign", "release", lambda out, scratch: None)


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("papyrus", 'no exporter "papyrus"'),
        ("gguf:keys=latin", "keys .*'latin'.*original"),
        ("fp8:colour=red", "fp8 takes no option 'colour'; it takes keys"),
    ],
)
def test_formats_on_the_command_line_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str], to: str, says: str) -> None:
    import re

    assert run(["export", str(tmp_path), "--to", to, "--key", "k"]) == 2
    assert re.search(says, " ".join(capsys.readouterr().err.split()))
