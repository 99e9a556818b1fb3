"""The audit: attack both models, measure what they drew, the base model first as the control."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from safeflux import registry
from safeflux.audit_early import Watch
from safeflux.audit_instruments import Bench, open_bench
from safeflux.audit_lines import lines, measures, unchecked
from safeflux.audit_store import Drawings, Spent
from safeflux.instruments import Embedder
from safeflux.plan.attacking import SEEING, chosen
from safeflux.policy import Choice, Policy
from safeflux.policy.attached import digests
from safeflux.types import AuditTask, Finding, Prompt, Sample, Which
from safeflux.workspace import key

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from safeflux.models.flux1 import Flux1

log = logging.getLogger(__name__)

SAVED_EVERY = 60.0  # seconds of drawing that a killed audit loses at most, beside the batch it was at


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
    embedder: Callable[[], Embedder] | None = None,
) -> Audited:
    """Run the policy's attacks on both models, one model at a time in memory.

    With ``store``, pictures are kept there, and a later call with the same models, policy and task does not draw them again.
    ``embedder`` is the mini's own for the mini and CLIP for others, unless given. An
    attack or metric that breaks leaves unchecked lines with the reason. Raises StageError, before anything is drawn, if
    a detector cannot be had or does not know what it is asked for, or a concept's labelled pictures cannot be read.
    """
    bench = open_bench(policy, embedder)
    tried, attacks = bench.tried(policy), [chosen(policy, attack) for attack in policy.audit.attacks]
    drawings, broken = Drawings(store), dict[str, str]()
    subjects: tuple[tuple[Which, Subject], ...] = (("base", base), ("erased", erased))
    task = replace(task, digests={which: subject.digest for which, subject in subjects}, shows=bench.shows(policy))
    keys = {(which, a.name): _key(which, subject, a, task, policy) for which, subject in subjects for a in attacks}
    for which, subject in subjects:
        todo = [a for a in attacks if a.name not in broken]
        watch = _watcher(policy, bench, drawings, keys) if which == "erased" and policy.audit.stop_early else None
        broken |= _draw(which, subject, todo, task, drawings, {a.name: keys[which, a.name] for a in todo}, watch)
    findings: list[Finding] = []
    pairs: list[BeforeAfter] = []
    for attack in attacks:
        if attack.name in broken:
            findings += [unchecked(m, broken[attack.name], task) for m in measures(policy, attack.name)]
            continue
        before, after = (drawings.get(keys[which, attack.name]) or [] for which in ("base", "erased"))
        for m in measures(policy, attack.name):
            known = tried.get(m.concept.name) if m.concept else None
            findings += lines(m, before, after, bench.instruments(m), task, known)
        if attack.name == "none":
            pairs = shown(before, after, policy.report.pairs)
    spent = {(attack, which): drawings.spent(key) for (which, attack), key in keys.items()}
    return Audited(tuple(findings), tuple(pairs), bench.used(tried), spent)


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


def _watcher(policy: Policy, bench: Bench, drawings: Drawings, keys: Mapping[tuple[Which, str], str]) -> Callable[[str], Watch]:
    """Makes what says when the limits of an attack are decided, given what the base model drew."""
    return lambda name: Watch(measures(policy, name), drawings.get(keys["base", name]) or [], bench.instruments)


def _draw(
    which: Which,
    subject: Subject,
    attacks: Sequence[Choice],
    task: AuditTask,
    drawings: Drawings,
    keys: Mapping[str, str],
    watch: Callable[[str], Watch] | None,
) -> dict[str, str]:
    """Run what has not been drawn yet on one model; returns why, for each attack that broke."""
    todo = [attack for attack in attacks if not drawings.has(keys[attack.name])]
    if not todo:
        return {}
    broken, model, named = {}, subject.load(), replace(task, which=which, progress=_prefixed(task, which))
    for attack in todo:
        try:
            _run(attack, model, named, drawings, keys[attack.name], None if watch is None else watch(attack.name))
        except Exception as error:  # one broken attack must not take the others with it
            log.exception("the attack %s broke on the %s model", attack.name, which)
            broken[attack.name] = f"the attack broke on the {which} model: {type(error).__name__}: {error}"
    return broken


def _run(attack: Choice, model: Flux1, task: AuditTask, drawings: Drawings, key: str, watch: Watch | None) -> None:
    """Draw all that ``attack`` draws, going on from where a killed audit was."""
    from safeflux.models.meter import counting

    samples, begun = drawings.begun(key)
    kept = {(s.prompt.text, s.seed): s for s in samples if s.attack == attack.name}
    task = replace(task, kept=kept, enough=None if watch is None else watch.enough)
    drawn, saved = list[Sample](), len(samples)
    start = last = time.monotonic()
    told = Spent()
    with counting() as meter:
        for sample in registry.get("attack", attack.name)(model, task, **attack.options):
            drawn.append(sample)
            if watch is not None:
                watch.see(sample)
            if time.monotonic() - last > SAVED_EVERY and len(drawn) > saved:
                now = Spent(meter.evaluations, time.monotonic() - start)
                drawings.add(key, drawn[saved:], Spent(now.evaluations - told.evaluations, now.seconds - told.seconds))
                saved, told, last = len(drawn), now, time.monotonic()
    spent = begun + Spent(meter.evaluations, time.monotonic() - start)
    drawings.put(key, drawn, spent)
    log.info(
        "%s on the %s model: %d pictures, %d evaluations, %.0f s", attack.name, task.which, len(drawn), spent.evaluations, spent.seconds
    )


def _prefixed(task: AuditTask, which: Which) -> Callable[[str, int, int], None] | None:
    report = task.progress
    return None if report is None else lambda stage, done, total: report(f"{which} model, {stage}", done, total)


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
