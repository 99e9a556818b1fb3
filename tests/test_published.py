"""What is published of a policy: all of it, but no path of the publisher's machine."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_example import example
from ruamel.yaml import YAML

from safeflux.policy import Policy, load_policy
from safeflux.policy.load import read_policy
from safeflux.published import base_name, lock_text
from safeflux.report import to_json

DEMO = Path(__file__).parent.parent / "policies" / "demo.yaml"


@pytest.fixture
def demo() -> Policy:
    return load_policy(DEMO)


@pytest.fixture
def report() -> dict[str, Any]:
    data = to_json(example())
    return data | {"edit": {**data["edit"], "digest": "e" * 64}}


def lock_of(policy: Policy, report: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(lock_text(policy, report))
    return found


def test_lock_holds_the_policy_word_for_word(demo: Policy, report: dict[str, Any]) -> None:
    lock = lock_of(demo, report)
    assert lock["policy"] == demo.text
    assert lock["policy_sha256"] == hashlib.sha256(lock["policy"].encode()).hexdigest()
    assert lock["withheld"] == []
    assert lock["base"]["digest"] == report["base"]["digest"]
    assert lock["edit_sha256"] == "e" * 64


@pytest.mark.parametrize("tail", ["", "\n", "\n\n\n", "  # the end", "\n  # indented: {\n"])
def test_lock_survives_odd_endings(report: dict[str, Any], tail: str) -> None:
    text = f"  # a first line that is indented\n{DEMO.read_text().rstrip()}{tail}"
    lock = lock_of(read_policy(text.encode(), DEMO), report)
    assert lock["policy"].removesuffix("\n") == text.removesuffix("\n")


def test_lock_withholds_paths_of_the_publishers_machine(report: dict[str, Any]) -> None:
    text = DEMO.read_text().replace("demo: true", "key: ~/secret/place/my.key # not ~/secret/place/my.key.old")
    text = text.replace("builtin:flux-mini", "../private/flux").replace("targets: [neon", "detector: mini\n    targets: [neon")
    text = text.replace("anchor: a figure", "anchor: a figure\n    detector: {zero-shot: {model: /opt/hidden/clip}}")
    text = text.replace("  preset: quick", "  preset: quick\n  photographs: kept at home/photos")
    policy = read_policy(text.encode(), Path("/home/me/policy.yaml"))
    shown = lock_text(policy, report)
    withheld = ["base.model", "concepts[2].detector.zero-shot.model", "audit.photographs", "signing.key"]
    assert lock_of(policy, report)["withheld"] == withheld
    assert "secret" not in shown
    assert "at home" not in shown
    assert "private" not in shown
    assert "hidden" not in shown
    assert "/home" not in shown
    assert base_name(policy) == "flux"


@pytest.mark.parametrize(
    ("model", "name"),
    [("builtin:flux-mini", "builtin:flux-mini"), ("./a/b/", "b"), ("~/flux", "flux"), ("owner/FLUX.1-dev", "owner/FLUX.1-dev")],
)
def test_base_model_is_named_without_its_place(demo: Policy, model: str, name: str) -> None:
    assert base_name(replace(demo, base=replace(demo.base, model=model))) == name
