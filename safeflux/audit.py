"""The audit: attack both models, measure what they drew, the base model first as the control."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from safeflux import registry
from safeflux.audit_instruments import open_bench
from safeflux.audit_lines import lines, measures, unchecked
from safeflux.audit_store import Drawings
from safeflux.options import options
from safeflux.plan.cost import images
from safeflux.policy import Choice, Policy
from safeflux.types import AuditTask, Embedder, Finding, Prompt, Sample, Which
from safeflux.workspace import key

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from safeflux.models.flux1 import Flux1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """A model to be audited: how to load it, and what its pictures depend on. Loaded only if something has to be drawn."""

    load: Callable[[], Flux1]
    digest: str


@dataclass(frozen=True)
class BeforeAfter:
    """What the two models drew from one prompt and one noise: images [H, W, 3] uint8."""

    prompt: Prompt
    seed: int
    base: NDArray[np.uint8]
    erased: NDArray[np.uint8]


@dataclass(frozen=True)
class Audited:
    """All lines of the report, pictures to show beside them, and what the pictures were judged with."""

    findings: tuple[Finding, ...]
    pairs: tuple[BeforeAfter, ...]
    detectors: tuple[Mapping[str, object], ...]


def audit(
    base: Subject,
    erased: Subject,
    policy: Policy,
    task: AuditTask,
    *,
    store: Path | None = None,
    embedder: Callable[[], Embedder] | None = None,
) -> Audited:
    """Run the policy's attacks on both models, one model at a time in memory.

    With ``store``, a set of pictures is kept there as soon as it is whole, and a later call with the same models, policy
    and task does not draw it again. ``embedder`` is the mini's own for the mini and CLIP for others, unless given. An
    attack or metric that breaks leaves unchecked lines with the reason. Raises StageError, before anything is drawn, if
    a detector cannot be had or does not know what it is asked for.
    """
    bench = open_bench(policy, embedder)
    attacks = chosen(policy)
    drawings, broken = Drawings(store), dict[str, str]()
    subjects: tuple[tuple[Which, Subject], ...] = (("base", base), ("erased", erased))
    task = replace(task, digests={which: subject.digest for which, subject in subjects})
    keys = {(which, a.name): _key(subject, a, task) for which, subject in subjects for a in attacks}
    for which, subject in subjects:
        todo = [a for a in attacks if a.name not in broken]
        broken |= _draw(which, subject, todo, task, drawings, {a.name: keys[which, a.name] for a in todo})
    findings: list[Finding] = []
    pairs: list[BeforeAfter] = []
    for attack in attacks:
        if attack.name in broken:
            findings += [unchecked(m, broken[attack.name], task) for m in measures(policy, attack.name)]
            continue
        before, after = (drawings.get(keys[which, attack.name]) or [] for which in ("base", "erased"))
        for m in measures(policy, attack.name):
            findings += lines(m, before, after, bench.instruments(m), task)
        if attack.name == "none":
            pairs = shown(before, after, policy.report.pairs)
    return Audited(tuple(findings), tuple(pairs), bench.used())


def chosen(policy: Policy) -> list[Choice]:
    """The policy's attacks, each with its number of pictures if it takes one."""
    takes = {attack.name: "images" in options("attack", attack.name) for attack in policy.audit.attacks}
    return [Choice(a.name, {**a.options, "images": images(policy, a)} if takes[a.name] else a.options) for a in policy.audit.attacks]


def shown(base: Sequence[Sample], erased: Sequence[Sample], n: int) -> list[BeforeAfter]:
    """The first ``n`` pairs of each concept, of neighbours and of general prompts: the first, not the best."""
    partners = {(s.prompt.text, s.seed): s for s in erased}
    groups: dict[str, list[BeforeAfter]] = {}
    for before in base:
        after = partners.get((before.prompt.text, before.seed))
        group = groups.setdefault(before.prompt.concept or f" {before.prompt.kind}", [])
        if after is not None and len(group) < n:
            group.append(BeforeAfter(before.prompt, before.seed, before.image, after.image))
    return [pair for group in groups.values() for pair in group]


def _draw(
    which: Which, subject: Subject, attacks: Sequence[Choice], task: AuditTask, drawings: Drawings, keys: Mapping[str, str]
) -> dict[str, str]:
    """Run what has not been drawn yet on one model; returns why, for each attack that broke."""
    todo = [attack for attack in attacks if not drawings.has(keys[attack.name])]
    if not todo:
        return {}
    broken, model, named = {}, subject.load(), replace(task, which=which, progress=_prefixed(task, which))
    for attack in todo:
        try:
            drawings.put(keys[attack.name], list(registry.get("attack", attack.name)(model, named, **attack.options)))
        except Exception as error:  # one broken attack must not take the others with it
            log.exception("the attack %s broke on the %s model", attack.name, which)
            broken[attack.name] = f"the attack broke on the {which} model: {type(error).__name__}: {error}"
    return broken


def _prefixed(task: AuditTask, which: Which) -> Callable[[str, int, int], None] | None:
    report = task.progress
    return None if report is None else lambda stage, done, total: report(f"{which} model, {stage}", done, total)


def _key(subject: Subject, attack: Choice, task: AuditTask) -> str:
    """All that a set of pictures depends on. Not where it is cached, and not what judges it."""
    concepts = [[c.name, c.category, c.targets, c.anchor, c.retain, c.label] for c in task.concepts]
    parts: dict[str, Any] = {"model": subject.digest, "attack": attack.name, "options": dict(attack.options), "concepts": concepts}
    parts["base"] = task.digests["base"]  # whose pictures an attack on the other model may work with
    return key("drawings", parts | {"retain": task.retain, "seed": task.seed, "steps": task.steps, "batch": task.batch})
