"""What a release says of itself: its report, and the claims that are signed.

Plain data in, plain data out; no torch. Nothing here holds a time, a host name or a path of the publisher's machine.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from importlib import metadata
from typing import Any

from safeflux import registry
from safeflux.options import options
from safeflux.plan import Plan
from safeflux.policy import Policy
from safeflux.published import base_name, public
from safeflux.types import Finding, Report
from safeflux.verify import AUDIT_STARTED, ERASURE_REPORT

RELEASE = "urn:safeflux:release:v1"
LIBRARIES = ("torch", "diffusers", "transformers", "numpy")

_NOT_TESTED = (
    "Prompts in other languages than those of the audit.",
    "Picture sizes, numbers of steps, schedulers and number formats other than those named here; of other formats more than their check.",
    "Concepts that are not listed. The base model, which still draws everything it could.",
)
_PIPELINES = ("Image to image other than the attack edit, ", "Image to image, ")
_GRADIENTS = ("concept-inversion", "unlearndiffatk", "p4d")  # beside embedding-pgd


def make_report(
    policy: Policy,
    plan: Plan,
    *,
    findings: Sequence[Finding],
    detectors: Sequence[Mapping[str, object]],
    pairs: Sequence[Mapping[str, object]],
    edit: Mapping[str, object],
    baked: Mapping[str, object],
    machine: Mapping[str, object],
    training: Mapping[str, object],
    exports: Sequence[Mapping[str, object]],
) -> Report:
    """The report of a release, its findings among what they were found with. ``machine``: what the training ran on; ``training``:
    how it went; ``exports``: how each format came through its check."""
    found = audit_report(policy, plan, findings=findings, detectors=detectors, pairs=pairs, subject={}, edit=edit, machine=machine)
    return replace(
        found,
        method={"name": policy.method.name, "options": public(plan.options[f"method {policy.method.name}"])},
        bake={
            "relative_error": baked["max_relative_error"],
            "tolerance": baked["tolerance"],
            "rollouts": baked["images"],
            **{name: baked[name] for name in ("layout", "decoys", "dtype", "preserved")},
        },
        training=training,
        exports=tuple(exports),
    )


def audit_report(
    policy: Policy,
    plan: Plan,
    *,
    findings: Sequence[Finding],
    detectors: Sequence[Mapping[str, object]],
    pairs: Sequence[Mapping[str, object]],
    subject: Mapping[str, object],
    edit: Mapping[str, object],
    machine: Mapping[str, object],
) -> Report:
    """The report of an audit, of a model of which it is not known how it was made. ``subject``: which files were examined; ``machine``:
    on what."""
    return Report(
        name=policy.name,
        version=policy.version,
        concepts=tuple(concept.name for concept in policy.concepts),
        base=_base(policy, plan, machine.get("guidance")),
        method={"name": "unknown", "options": {}},
        edit=edit,
        environment=environment() | {"device": machine["device"], "precision": plan.precision},
        limits=asdict(policy.limits),
        not_tested=not_tested(policy),
        findings=tuple(findings),
        pairs=tuple(pairs),
        policy=_asked(policy, plan),
        detectors=tuple(detectors),
        subject=subject,
    )


def _base(policy: Policy, plan: Plan, guidance: object) -> dict[str, object]:
    """The model that was started from, how it was sampled, and the releases in between."""
    size = plan.geometry.image_size
    found: dict[str, object] = {
        "model": base_name(policy), "revision": policy.base.revision, "digest": plan.model_digest, "steps": plan.steps,
        "max_sequence_length": plan.max_sequence_length, "width": size, "height": size,
    }  # fmt: skip
    if plan.licence.terms != "unknown":
        found["license"] = plan.licence.terms
    if plan.earlier:
        found["lineage"] = [dict(told) for one in plan.earlier for told in one.lineage]
    return found if guidance is None else found | {"guidance_scale": guidance}


def _asked(policy: Policy, plan: Plan) -> dict[str, object]:
    """What of the policy stands in the report."""
    return {
        "digest": policy.digest,
        "seed": policy.seed,
        "preset": policy.audit.preset,
        **({"stop_early": True} if policy.audit.stop_early else {}),
        "attacks": [{"name": one.name, "options": public(plan.options[f"attack {one.name}"])} for one in policy.audit.attacks],
        "concepts": [public(asdict(concept)) for concept in policy.concepts],
    }


def not_tested(policy: Policy) -> tuple[str, ...]:
    """What this SafeFlux cannot test, and what it could have but was not asked to."""
    asked = {attack.name for attack in policy.audit.attacks} | {"none"}
    return (
        _optimised(policy),
        *([] if asked & {"relearn", "surgery"} else ["Fine-tuning or weight surgery to bring a concept back."]),
        f"{_PIPELINES[0 if 'edit' in asked else 1]}inpainting, control networks, adapters, and every other pipeline than text to image.",
        *_NOT_TESTED,
        *(f"The attack {name}, which the policy left out." for name in registry.names("attack") if name not in asked),
    )


def _optimised(policy: Policy) -> str:
    """What of attacks with gradients was not tried: all of them, or all but those named."""
    tried = []
    for attack in policy.audit.attacks:
        if attack.name == "embedding-pgd":
            radius = attack.options.get("radius", options("attack", attack.name)["radius"].default)
            tried.append(f"embedding-pgd within a ball of radius {radius:g} (of the embeddings' own length) around direct prompts")
        elif attack.name in _GRADIENTS:
            tried.append(attack.name)
    other = f", other than {', '.join(tried)}" if tried else ""
    return f"Attacks that use gradients or optimise embeddings{other}."


def environment() -> dict[str, object]:
    """Software and kind of machine: what a person needs to run it again."""
    found: dict[str, object] = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for name in ("safeflux", *LIBRARIES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def claims(policy: Policy, report: Mapping[str, Any], audited: datetime) -> list[tuple[str, object]]:
    """What is signed beside the files: how the release was made, which of its tests it passed, and the report itself.

    ``audited``: when the audit was begun.
    """
    from safeflux_signing.claims import outcome, provenance, resource
    from safeflux_signing.strictjson import write_time

    checked = [resource(f"urn:safeflux:policy:{policy.name}", {"sha256": policy.digest}, "policy.lock.yaml")]
    made = provenance(
        build_type=RELEASE,
        builder="urn:safeflux:release",
        parameters={"name": policy.name, "version": policy.version, "method": report["method"], "concepts": report["concepts"]},
        internal={"seed": policy.seed, AUDIT_STARTED: write_time(audited), "environment": report["environment"]},
        dependencies=[resource(_base_uri(policy), {"safefluxDirectory": report["base"]["digest"]}, "base model"), *checked],
        versions={name: str(found) for name, found in report["environment"].items() if name in ("safeflux", *LIBRARIES) and found},
    )
    limited = [(_test(finding), finding["status"]) for finding in report["findings"] if finding["limit"] is not None]
    passed = [name for name, status in limited if status == "passed"]
    failed = [name if status == "failed" else f"{name} ({status})" for name, status in limited if status != "passed"]
    if report["verdict"] != "passed" and not failed:
        failed = ["verdict"]  # nothing failed because not everything was looked at
    return [made, outcome(configuration=checked, passed=passed, failed=failed), (ERASURE_REPORT, report)]


def _base_uri(policy: Policy) -> str:
    model, revision = policy.base.model, policy.base.revision
    return f"pkg:huggingface/{model}@{revision}" if revision else f"urn:safeflux:model:{base_name(policy).removeprefix('builtin:')}"


def _test(finding: Mapping[str, Any]) -> str:
    return f"{finding['concept'] or 'retained'}/{finding['attack']}/{finding['metric']}"
