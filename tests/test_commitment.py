"""The policy is fixed before the audit, once, whatever happens meanwhile; and whoever changes it afterwards says so."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import release_fakes as fakes

from safeflux import files
from safeflux.errors import StageError
from safeflux.policy import load_policy
from safeflux.release import release
from safeflux.verify import verify
from safeflux_signing import keys
from safeflux_signing.commitments import Commitment
from safeflux_signing.signers import KeySigner

NOW = 1_800_000_000


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A clock that goes on by a minute whenever somebody looks at it; its time can be set."""
    times = [NOW]

    def look() -> float:
        times[0] += 60
        return times[0]

    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    fakes.calls.clear()
    with fakes.faked(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time", look)
        yield times


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    fakes.write_base(tmp_path / "base")
    keys.new(tmp_path / "publisher.key", None)
    (tmp_path / "policy.yaml").write_text(fakes.POLICY)
    return tmp_path / "policy.yaml"


def promised(policy: Path, *, key: Path | KeySigner | None = None) -> Commitment:
    """Make the release, verify it, and tell what was promised in it."""
    made = release(policy, out=policy.parent / "run", key=key)
    publics = [key.public_key()] if isinstance(key, KeySigner) else [keys.load_public(policy.with_name("publisher.pub"))]
    [commitment] = [claim.commitment for claim in verify(made.release_dir, publics).claims if claim.commitment]
    return commitment


def lines(policy: Path) -> tuple[bytes, bytes]:
    """What is kept in work/, and the first claim of the release."""
    run = policy.parent / "run"
    return (run / "work/commit/commitment.jsonl").read_bytes(), (run / "release/claims.jsonl").read_bytes().splitlines(keepends=True)[0]


def test_the_release_holds_the_line_that_was_kept_from_the_start(policy: Path) -> None:
    first = promised(policy)
    kept, published = lines(policy)
    assert kept == published
    assert (first.fixed.sha256, first.earlier) == (load_policy(policy).digest, ())
    assert first.fixed.time.timestamp() > NOW
    assert promised(policy) == first
    assert fakes.calls["audit"] == 1


@pytest.mark.parametrize("stage", ["prepare", "erase", "audit", "sign"])
def test_a_release_that_was_killed_keeps_the_claim(policy: Path, tmp_path: Path, stage: str, clock: list[int]) -> None:
    command = [sys.executable, fakes.__file__, str(policy), str(tmp_path / "run"), stage]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == -signal.SIGKILL
    before = (tmp_path / "run/work/commit/commitment.jsonl").read_bytes()
    promised(policy)
    assert lines(policy) == (before, before)


def test_a_policy_changed_after_the_audit_is_disclosed(policy: Path) -> None:
    """Also over several changes, and also when it is changed back: then not as an earlier one, but with a later time."""
    first, text = promised(policy), policy.read_text()
    policy.write_text(text.replace("detection: 0.10", "detection: 0.20"))
    second = promised(policy)
    policy.write_text(text.replace("detection: 0.10", "detection: 0.30"))
    third = promised(policy)
    assert second.earlier == (first.fixed,)
    assert third.earlier == (first.fixed, second.fixed)
    assert third.fixed.time > second.fixed.time > first.fixed.time
    policy.write_text(text)
    again = promised(policy)
    assert (again.fixed.sha256, again.earlier) == (first.fixed.sha256, (second.fixed, third.fixed))
    assert again.fixed.time > third.fixed.time


def test_a_policy_changed_before_anything_was_audited_is_not(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(fakes.baking, "bake", lambda *_: (_ for _ in ()).throw(StageError("not today")))
        with pytest.raises(StageError, match="not today"):
            release(policy, out=policy.parent / "run")
    policy.write_text(policy.read_text().replace("detection: 0.10", "detection: 0.20"))
    assert promised(policy).earlier == ()


def test_another_key_fixes_it_anew_and_it_is_audited_after_that(policy: Path) -> None:
    first = promised(policy)
    second = promised(policy, key=KeySigner(keys.KINDS["p384"].make()))
    assert (second.fixed.sha256, second.earlier) == (first.fixed.sha256, ())
    assert second.fixed.time > first.fixed.time
    assert fakes.calls["audit"] == 2


def test_a_clock_that_went_back_stops_it_before_the_audit(policy: Path, clock: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    real = fakes.baking.bake

    def late(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        clock[0] = NOW - 10**6

    with monkeypatch.context() as patch:
        patch.setattr(fakes.baking, "bake", late)
        with pytest.raises(StageError, match="set the clock right"):
            release(policy, out=policy.parent / "run")
    assert not fakes.calls["audit"]
    shutil.rmtree(policy.parent / "run/work/commit")
    assert promised(policy).earlier == ()


def test_a_signer_that_fails_stops_it_before_anything_is_trained(policy: Path) -> None:
    class Broken(KeySigner):
        def sign(self, data: bytes, /) -> bytes:
            return b"no"

    with pytest.raises(StageError, match="cannot be fixed"):
        release(policy, out=policy.parent / "run", key=Broken(keys.KINDS["ed25519"].make()))
    assert not fakes.calls
    assert files.tree(policy.parent / "run" / "work").keys().isdisjoint({"commit/commitment.jsonl"})
