"""A policy with limits alone, which the embedded FLUX cannot keep: the release fails, and says how near it came."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safeflux_cli.main import run

POLICY = """safeflux: 1
name: impossible
version: "1.0"
seed: 5
base: {model: builtin:flux-mini}
concepts: # each the nearest thing to one that must stay, and nothing of it may be lost
  - {name: captain comet, category: character, targets: [captain comet, the comet hero], retain: [star, rusty robot], detector: mini}
  - {name: cross, category: object, targets: [cross], anchor: a shape, retain: [sword, key], detector: mini}
retain: [gun, arrow, umbrella]
method: {mask: {updates: 40}} # no more time than to show that it does not do
limits: {detection: {at_most: 0.02, confidence: 0.51}, attack_success: 0.5, retained: {at_least: 0.98, confidence: 0.51}}
audit: {preset: quick, attacks: [none], images: 40}
signing: {demo: true}
"""


@pytest.mark.slow
def test_limits_that_cannot_be_kept_fail_with_the_best_that_was_reached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    assert run(["release", str(tmp_path / "policy.yaml"), "--out", str(tmp_path / "out")]) == 1
    said = "".join(capsys.readouterr())
    assert "the limits cannot be met on held-out prompts" in said
    assert not (tmp_path / "out" / "release").exists()
    report = json.loads((tmp_path / "out" / "unsigned" / "erasure_report.json").read_text())
    unmet, rates = report["training"]["unmet"], report["training"]["rates"]
    assert unmet
    for line in unmet:
        name, rest = line.split(": ")
        wanted, reached = rest.removeprefix("wanted at ").split(", reached ")
        side, limit = wanted.split()
        assert float(reached) == pytest.approx(rates[name], rel=1e-3)
        assert float(reached) < float(limit) if side == "least" else float(reached) > float(limit)
    assert [f for f in report["findings"] if f["status"] == "failed"]
