"""A real release of the embedded FLUX, killed in the middle of every stage that takes long enough to be hit, ends in the same bytes."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from safeflux import workspace
from safeflux_signing import keys

POLICY = """safeflux: 1
name: killed
version: "1.0"
seed: 3
base: {model: builtin:flux-mini}
concepts:
  - {name: sword, category: object, targets: [sword], anchor: a shape, retain: [cross], detector: mini}
retain: [cat, house]
method: {mask: {updates: 24, batch: 16}}
limits: {detection: 0.5, attack_success: 0.9, retained: 0.5}
audit: {preset: quick, attacks: [none, {ring-a-bell: {texts: 2, population: 20, generations: 10, ban: false, images: 20}}], images: 20}
bake: {decoys: true}
exports: [diffusers, removed]
signing: {key: publisher.key}
"""
STAGES = ("plan", "commit", "prepare", "erase", "bake", "audit", "export", "check", "report", "sign")


def start(root: Path, out: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "safeflux_cli.main", "release", "policy.yaml", "--out", out, "--allow-failing"]
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1700000000", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_within(root: Path, stage: str) -> bool:
    """Kill a run shortly after ``stage`` began to write; whether it was still at work then."""
    process = start(root, "killed")
    work = root / "killed" / "work"
    while process.poll() is None and not list(work.glob(f"{stage}.partial-*")):
        time.sleep(0.002)
    time.sleep({"erase": 6.0, "audit": 4.0, "prepare": 1.0}.get(stage, 0.0))
    process.send_signal(signal.SIGKILL)
    process.wait()
    return workspace.recorded(work, stage) is None


def digests(directory: Path) -> dict[str, str]:
    files = sorted(p for p in directory.rglob("*") if p.is_file())
    return {str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.slow
def test_killed_in_every_stage_it_ends_in_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    keys.new(tmp_path / "publisher.key", None)
    start(tmp_path, "whole").wait()
    hit = [stage for stage in STAGES if kill_within(tmp_path, stage)]
    start(tmp_path, "killed").wait()
    assert {"prepare", "erase", "audit"} <= set(hit)
    whole, killed = digests(tmp_path / "whole" / "release"), digests(tmp_path / "killed" / "release")
    assert "model.sig" in whole
    assert killed == whole
    assert not list((tmp_path / "killed").rglob("*partial*"))
