"""Plans that grow from earlier releases, and exports that cannot come of one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from report_example import CONCEPTS, example

from safeflux import report
from safeflux.errors import PlanError
from safeflux.plan import describe, make_plan
from safeflux.plan.base import directory_digest
from safeflux.policy import Choice, Policy


def extending(policy: Policy, tmp_path: Path, **changes: object) -> Policy:
    """A policy that extends a release of ``report_example``'s, with the base model's true digest in its report."""
    digest = directory_digest(tmp_path / "model")
    old = example(base={**example().base, "digest": digest}, **changes)
    (tmp_path / "old" / "transformer").mkdir(parents=True)
    (tmp_path / "old" / "erasure_report.json").write_text(report.to_text(old))
    (tmp_path / "old" / "transformer" / "config.json").write_text("{}")
    concepts = tuple(replace(policy.concepts[0], name=name) for name in (*CONCEPTS, "bomb"))
    return replace(policy, concepts=concepts, base=replace(policy.base, extends=str(tmp_path / "old")))


def test_a_release_can_be_extended_and_is_named(policy: Policy, tmp_path: Path) -> None:
    plan = make_plan(extending(policy, tmp_path))
    [earlier] = plan.earlier
    [told] = earlier.lineage
    assert told["name"] == "flux-mini-erased"
    assert told["concepts"] == list(CONCEPTS)
    assert "Extends       flux-mini-erased" in describe(plan)
    json.dumps(plan.to_json())


def test_releases_can_be_merged_and_are_named(policy: Policy, tmp_path: Path) -> None:
    grown = extending(policy, tmp_path)
    shutil.copytree(tmp_path / "old", tmp_path / "older")
    merging = replace(grown, base=replace(grown.base, extends=None, merges=(str(tmp_path / "old"), str(tmp_path / "older"))))
    plan = make_plan(merging)
    assert [one.directory.name for one in plan.earlier] == ["old", "older"]
    assert "Merges        flux-mini-erased, flux-mini-erased: what they erased is where the training starts" in describe(plan)
    json.dumps(plan.to_json())
    with pytest.raises(PlanError, match=r"base.merges: .*the method is concept-prune; wanted masks, and one of mask"):
        make_plan(replace(merging, method=Choice("concept-prune")))


def test_what_cannot_be_extended_is_refused(policy: Policy, tmp_path: Path) -> None:
    grown = extending(policy, tmp_path)
    with pytest.raises(PlanError, match=r"erased captain comet too; list every concept again"):
        make_plan(replace(grown, concepts=tuple(c for c in grown.concepts if c.name != "captain comet")))
    (tmp_path / "old" / "transformer").rename(tmp_path / "old" / "elsewhere")
    with pytest.raises(PlanError, match="holds no transformer/"):
        make_plan(grown)
    (tmp_path / "old" / "elsewhere").rename(tmp_path / "old" / "transformer")
    with pytest.raises(PlanError, match="the method is uce; wanted masks"):
        make_plan(replace(grown, method=Choice("uce")))
    (tmp_path / "model" / "transformer" / "weights.safetensors").write_text("other weights")
    with pytest.raises(PlanError, match="made from another base model"):
        make_plan(grown)
    with pytest.raises(PlanError, match="wanted the directory of a release"):
        make_plan(replace(grown, base=replace(grown.base, extends=str(tmp_path / "nowhere"))))


def test_formats_that_cannot_come_of_it_are_refused_before_anything_is_trained(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("single-file", "fp8"):
        with pytest.raises(PlanError, match=f"exports: {name} cannot be made .* 128 wide, and readers of the original layout know 3072"):
            make_plan(replace(policy, exports=(Choice(name),)))
        make_plan(replace(policy, exports=(Choice(name, {"keys": "diffusers"}),)))
    monkeypatch.setattr("safeflux.plan.exports.find_spec", lambda package: None)
    with pytest.raises(PlanError, match=r'gguf needs the package gguf; pip install "safeflux\[gguf\]"'):
        make_plan(replace(policy, exports=(Choice("gguf", {"keys": "diffusers"}),)))
