"""The audit: attack both models, measure what they drew, the base model first as the control."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from safeflux import audit_jobs
from safeflux.audit_drawing import Round, Subject, draw
from safeflux.audit_instruments import Bench, open_bench
from safeflux.audit_lines import lines, measures, unchecked
from safeflux.audit_store import Drawings, Spent
from safeflux.instruments import Embedder
from safeflux.plan.attacking import SEEING, chosen
from safeflux.policy import Choice, Policy
from safeflux.policy.attached import digests
from safeflux.statistics.detector_error import Labelled
from safeflux.types import AuditTask, Finding, Prompt, Sample, Which
from safeflux.workspace import key

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class BeforeAfter:
    """What the two models drew from one prompt and one noise: images [H, W, 3] uint8."""

    prompt: Prompt
    seed: int
    base: NDArray[np.uint8]
    erased: NDArray[np.uint8]


@dataclass(frozen=True)
class Audited:
    """All lines of the report, pictures to show beside them, and what the pictures were judged with.

    ``spent``: by attack and model, what drawing took on this machine. It is no part of a report, which has to come out the same again.
    """

    findings: tuple[Finding, ...]
    pairs: tuple[BeforeAfter, ...]
    detectors: tuple[Mapping[str, object], ...]
    spent: Mapping[tuple[str, Which], Spent]


def audit(
    base: Subject,
    erased: Subject,
    policy: Policy,
    task: AuditTask,
    *,
    store: Path | None = None,
    jobs: int = 1,
    embedder: Callable[[], Embedder] | None = None,
) -> Audited:
    """Run the policy's attacks on both models, one model at a time in memory.

    With ``store``, pictures are kept there, and a later call with the same models, policy and task does not draw them again; and up to
    ``jobs`` attacks are run side by side, each in a process that holds the model once more.
    ``embedder`` is the mini's own for the mini and CLIP for others, unless given. An
    attack or metric that breaks leaves unchecked lines with the reason. Raises StageError, before anything is drawn, if
    a detector cannot be had or does not know what it is asked for, or pictures that the policy names cannot be read; and where one of the
    ``jobs`` dies. Raises PlanError, as early, where there are no such pictures.
    """
    bench = open_bench(policy, embedder)
    tried, attacks = bench.tried(policy), [chosen(policy, attack) for attack in policy.audit.attacks]
    drawings, broken = Drawings(store), dict[str, str]()
    subjects: tuple[tuple[Which, Subject], ...] = (("base", base), ("erased", erased))
    task = replace(task, digests={which: subject.digest for which, subject in subjects})
    keys = {(which, a.name): _key(which, subject, a, task, policy) for which, subject in subjects for a in attacks}
    for which, subject in subjects:
        todo = [a for a in attacks if a.name not in broken and not drawings.has(keys[which, a.name])]
        if store is not None and min(jobs, len(todo)) > 1:
            broken |= audit_jobs.spread(jobs, audit_jobs.Given(which, subject.load, policy, task, store, keys), todo)
        elif todo:
            broken |= draw(Round.of(which, policy, bench, task, drawings, keys), subject.load, todo)
    findings, pairs = list[Finding](), list[BeforeAfter]()
    for attack in attacks:
        if attack.name in broken:
            findings += [unchecked(m, broken[attack.name], task) for m in measures(policy, attack.name)]
            continue
        before, after = (drawings.get(keys[which, attack.name]) or [] for which in ("base", "erased"))
        findings += _told(attack.name, before, after, policy, bench, task, tried)
        if attack.name == "none":
            pairs = shown(before, after, policy.report.pairs)
    spent = {(attack, which): drawings.spent(key) for (which, attack), key in keys.items()}
    return Audited(tuple(findings), tuple(pairs), bench.used(tried), spent)


def _told(
    attack: str,
    before: Sequence[Sample],
    after: Sequence[Sample],
    policy: Policy,
    bench: Bench,
    task: AuditTask,
    tried: Mapping[str, Labelled],
) -> Iterator[Finding]:
    """The lines of one attack."""
    for m in measures(policy, attack):
        yield from lines(m, before, after, bench.instruments(m), task, tried.get(m.concept.name) if m.concept else None)


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


def _key(which: Which, subject: Subject, attack: Choice, task: AuditTask, policy: Policy) -> str:
    """All that a set of pictures depends on. Not where it is cached, and not what judges it, unless that says how many are drawn."""
    concepts = [[c.name, c.category, c.targets, c.anchor, c.retain, c.label, dict(c.translations)] for c in task.concepts]
    given = {**attack.options, **digests(policy, attack)}
    parts: dict[str, Any] = {"model": subject.digest, "attack": attack.name, "options": given, "concepts": concepts}
    judges = [[c.detector.name, dict(c.detector.options)] for c in policy.concepts]
    if which == "erased" and policy.audit.stop_early:
        parts["until"] = [asdict(policy.limits), judges]
    if which == "erased" and attack.name in SEEING:
        parts["seen by"] = judges
    parts["base"] = task.digests["base"]  # whose pictures an attack on the other model may work with
    return key("drawings", parts | {"retain": task.retain, "seed": task.seed, "steps": task.steps, "batch": task.batch})
