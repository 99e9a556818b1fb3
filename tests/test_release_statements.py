"""What a release says of itself: no better than its findings, and no more tested than it was."""

from __future__ import annotations

import getpass
import json
import platform
import socket
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from report_example import example

from safeflux.plan import make_plan
from safeflux.policy import Choice, Policy, load_policy
from safeflux.report import to_json
from safeflux.statements import LIBRARIES, audit_report, claims, not_tested
from safeflux.verify import AUDIT_STARTED, ERASURE_REPORT
from safeflux_signing.claims import PROVENANCE

DEMO = Path(__file__).parent.parent / "policies" / "demo.yaml"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
AUDITED = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def demo() -> Policy:
    return load_policy(DEMO)


@pytest.fixture
def report() -> dict[str, Any]:
    return to_json(example())


def test_claims_are_what_the_findings_say(demo: Policy, report: dict[str, Any]) -> None:
    said: dict[str, Any] = dict(claims(demo, report, AUDITED))
    limited = [finding for finding in report["findings"] if finding["limit"] is not None]
    result = said[TEST_RESULT]
    assert len(result["passedTests"]) + len(result["failedTests"]) == len(limited)
    assert (result["result"] == "PASSED") == (report["verdict"] == "passed")
    assert said[ERASURE_REPORT] == report
    internal = {"seed": demo.seed, AUDIT_STARTED: "2026-01-02T00:00:00Z", "environment": report["environment"]}
    assert said[PROVENANCE]["buildDefinition"]["internalParameters"] == internal
    json.dumps(said, allow_nan=False)


def test_the_provenance_alone_says_what_a_person_needs_to_run_it_again(
    demo: Policy, report: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Software and kind of machine, whichever machine of that kind it was: no name of it, no path on it."""
    plan, found = make_plan(demo), []
    for machine in ("one", "other"):
        for module, name in ((platform, "node"), (socket, "gethostname"), (getpass, "getuser")):
            monkeypatch.setattr(module, name, lambda machine=machine: f"name-of-{machine}")
        monkeypatch.setenv("HOME", f"/home/{machine}")
        made = audit_report(demo, plan, findings=[], detectors=[], pairs=[], subject={}, edit={}, machine={"device": "cpu"})
        [(kind, said), *_] = claims(demo, report | {"environment": made.environment}, AUDITED)
        assert kind == PROVENANCE
        found.append(json.dumps(said, sort_keys=True))
        environment = json.loads(found[-1])["buildDefinition"]["internalParameters"]["environment"]
        assert {name: environment[name] for name in ("device", "precision")} == {"device": "cpu", "precision": plan.precision}
        assert environment["python"] == platform.python_version()
        assert environment.keys() == {"python", "platform", "safeflux", *LIBRARIES, "device", "precision"}
        assert not any("/" in str(value) or "name-of" in str(value) for value in environment.values())
    assert found[0] == found[1]


@pytest.mark.parametrize("status", ["failed", "unchecked"])
def test_no_claim_passes_what_did_not(demo: Policy, report: dict[str, Any], status: str) -> None:
    [first, *_] = [finding for finding in report["findings"] if finding["limit"] is not None]
    first["status"] = status
    said: dict[str, Any] = dict(claims(demo, report | {"verdict": "failed"}, AUDITED))
    assert said[TEST_RESULT]["result"] == "FAILED"
    assert any(first["concept"] in name for name in said[TEST_RESULT]["failedTests"])


def test_verdict_that_failed_for_what_is_missing_is_a_failed_test(demo: Policy, report: dict[str, Any]) -> None:
    said: dict[str, Any] = dict(claims(demo, report | {"verdict": "failed", "findings": []}, AUDITED))
    assert said[TEST_RESULT]["failedTests"] == ["verdict"]


def test_attack_that_was_left_out_is_said_to_be_untested(demo: Policy) -> None:
    direct = replace(demo, audit=replace(demo.audit, attacks=demo.audit.attacks[:1]))
    assert len(not_tested(direct)) == len(not_tested(demo)) + 2
    assert any("ring-a-bell" in sentence for sentence in not_tested(direct))


def test_of_attacks_with_gradients_it_says_how_far_they_went(demo: Policy) -> None:
    def said(*attacks: Choice) -> list[str]:
        return [
            s for s in not_tested(replace(demo, audit=replace(demo.audit, attacks=attacks))) if "gradients" in s or "embedding-pgd" in s
        ]

    assert said(Choice("none")) == [
        "Attacks that use gradients or optimise embeddings.", "The attack embedding-pgd, which the policy left out.",
    ]  # fmt: skip
    for options, radius in (({}, "0.1"), ({"radius": 0.25}, "0.25")):
        (one,) = said(Choice("none"), Choice("embedding-pgd", options))
        assert f"other than embedding-pgd within a ball of radius {radius} (of the embeddings' own length) around direct prompts" in one
    (one,) = said(Choice("none"), Choice("p4d"), Choice("embedding-pgd"), Choice("concept-inversion"), Choice("unlearndiffatk"))[:1]
    assert one.startswith("Attacks that use gradients or optimise embeddings, other than p4d, embedding-pgd within a ball of radius 0.1 ")
    assert one.endswith("around direct prompts, concept-inversion, unlearndiffatk.")


def test_what_was_tested_is_not_among_what_was_not(demo: Policy) -> None:
    def said(*names: str) -> str:
        return " ".join(not_tested(replace(demo, audit=replace(demo.audit, attacks=tuple(map(Choice, names))))))

    assert "Fine-tuning or weight surgery" in said("none")
    assert "Fine-tuning or weight surgery" not in said("none", "relearn")
    assert "The attack surgery, which the policy left out." in said("none", "relearn")
    assert "Image to image, inpainting" in said("none")
    assert "Image to image other than the attack edit, inpainting" in said("none", "edit")
