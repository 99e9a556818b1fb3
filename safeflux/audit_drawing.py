"""Run attacks on one model and keep what they draw; a killed run goes on where it was."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from safeflux import registry
from safeflux.audit_early import Watch
from safeflux.audit_instruments import Bench
from safeflux.audit_lines import measures
from safeflux.audit_store import Drawings, Spent
from safeflux.policy import Choice, Policy
from safeflux.types import AuditTask, Sample, Which

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1

log = logging.getLogger(__name__)

SAVED_EVERY = 60.0  # seconds of drawing that a killed audit loses at most, beside the batch it was at


@dataclass(frozen=True)
class Subject:
    """A model to be audited: how to load it, and what its pictures depend on. Loaded only if something has to be drawn.

    Where attacks are to run side by side, other processes are given ``load``: it has to be one that pickle takes.
    """

    load: Callable[[], Flux1]
    digest: str


@dataclass(frozen=True)
class Round:
    """What all attacks on one model share. ``keys``: under which each attack's pictures are kept, by model and name.

    ``watch`` makes what says when an attack has drawn enough.
    """

    which: Which
    task: AuditTask
    drawings: Drawings
    keys: Mapping[tuple[Which, str], str]
    watch: Callable[[str], Watch] | None = None

    @classmethod
    def of(
        cls, which: Which, policy: Policy, bench: Bench, task: AuditTask, drawings: Drawings, keys: Mapping[tuple[Which, str], str]
    ) -> Round:
        """The round of ``which`` model. Of the base model everything is drawn: what is enough is told by what it drew."""
        task = replace(task, which=which, shows=bench.shows(policy), progress=_prefixed(task, which))
        if which == "base" or not policy.audit.stop_early:
            return cls(which, task, drawings, keys)
        return cls(
            which,
            task,
            drawings,
            keys,
            lambda name: Watch(measures(policy, name), drawings.get(keys["base", name]) or [], bench.instruments),
        )


def draw(round_: Round, load: Callable[[], Flux1], attacks: Sequence[Choice]) -> dict[str, str]:
    """Run ``attacks``, of which nothing is kept whole yet; returns why, for each that broke."""
    broken, model = {}, load()
    for attack in attacks:
        try:
            _run(attack, model, round_)
        except Exception as error:  # one broken attack must not take the others with it
            log.exception("the attack %s broke on the %s model", attack.name, round_.which)
            broken[attack.name] = f"the attack broke on the {round_.which} model: {type(error).__name__}: {error}"
    return broken


def _run(attack: Choice, model: Flux1, round_: Round) -> None:
    """Draw all that ``attack`` draws, going on from where a killed audit was."""
    from safeflux.models.meter import counting

    drawings, key = round_.drawings, round_.keys[round_.which, attack.name]
    watch = None if round_.watch is None else round_.watch(attack.name)
    samples, begun = drawings.begun(key)
    kept = {(s.prompt.text, s.seed): s for s in samples if s.attack == attack.name}
    task = replace(round_.task, kept=kept, enough=None if watch is None else watch.enough)
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
