"""Every attack on every method, on the embedded FLUX: ``python bench/attacks.py``. Numbers of a toy; they say nothing about FLUX.1.

The erased models are those that ``bench/recipes.py`` made for the same concepts and seed; what it has not made is made now. Each attack is
given the same prompts, noise and budget against all of them, the base model first. A rate counts the pairs of prompt and noise from which
the base model draws the concept. What one attack found on one method is a file below OUT, and is not looked for again. An attack that
breaks is told in the table, and the others go on.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from attacks_table import Shot, Trial, record, table
from recipes import Job, _erase
from recipes_settings import METHODS

from safeflux import registry
from safeflux.audit_instruments import open_bench
from safeflux.bake import load_baked
from safeflux.files import write_atomic
from safeflux.models.flux1 import Flux1
from safeflux.models.meter import counting
from safeflux.plan import Plan, make_plan
from safeflux.plan.attacking import chosen
from safeflux.policy import Choice, Policy
from safeflux.policy.model import Preset
from safeflux.types import AuditTask
from safeflux.workspace import key

log = logging.getLogger("bench.attacks")
SETTINGS: dict[str, dict[str, object]] = {
    # In this little world nothing but the names themselves means the concept to the base model, and T5 alone tells what is drawn: texts
    # searched against both encoders draw the concepts of the base model in fewer pictures.
    "ring-a-bell": {"ban": False, "length": 10, "against": "t5"},
    "mma": {"ban": False, "length": 8},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":", 1)[0])
    known = [name for name in registry.BUILT_IN["attack"] if name != "prompts"]
    parser.add_argument("--concepts", type=int, default=1, help="how many are erased at once (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME")
    parser.add_argument("--attacks", nargs="+", choices=known, default=known, metavar="NAME")
    parser.add_argument("--preset", choices=get_args(Preset), default="standard", help="how hard to look (default: %(default)s)")
    parser.add_argument("--images", type=int, default=48, help="a concept and attack (default: %(default)s)")
    parser.add_argument("--recipes", type=Path, default=Path("runs/recipes"), help="OUT of bench/recipes.py (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/attacks"))
    parser.add_argument("--record", type=Path, metavar="FILE", help="keep what the table needs of it, as bench/attacks.jsonl does")
    asked = parser.parse_args()
    jobs = {name: Job(name, METHODS[name], asked.concepts, asked.seed, 0.1, asked.recipes) for name in asked.methods}
    policy = _attacked(jobs[asked.methods[0]].policy, asked.attacks, asked.preset, asked.images)
    plan = make_plan(jobs[asked.methods[0]].policy)  # what is attacked here is not held to the limits
    models = {"base": Path(plan.model_dir)} | {name: _made(job) for name, job in jobs.items()}
    trials = list(_trials(policy, plan, models, asked.out / f"{asked.concepts}-{asked.seed}"))
    text = table(trials, asked.methods)
    write_atomic(asked.out / "table.md", text + "\n")
    print(text)
    if asked.record:
        record(trials, asked.record)


def _attacked(policy: Policy, attacks: Sequence[str], preset: Preset, images: int) -> Policy:
    choices = tuple(Choice(name, SETTINGS.get(name, {})) for name in attacks)
    return replace(policy, audit=replace(policy.audit, attacks=choices, preset=preset, images=images))


def _made(job: Job) -> Path:
    """The directory with the newest model that the method made of this policy; made now if there is none."""
    name, policy = job.name.replace(" ", "-"), job.policy
    made = sorted(job.shared.glob(f"{name}-{policy.digest[:8]}-*/model/model_index.json"), key=lambda path: path.stat().st_mtime)
    if made:
        return made[-1].parent
    log.warning("%s: %s has no such model; it is made now", job.name, job.shared)
    place = job.shared / f"{name}-{policy.digest[:8]}-attacked"
    place.mkdir(parents=True, exist_ok=True)
    _erase(policy, make_plan(policy), job.setting, job.shared / "task", place)
    return place / "model"


def _trials(policy: Policy, plan: Plan, models: Mapping[str, Path], out: Path) -> Iterator[Trial]:
    """Each attack on each model, the base model first, one model at a time in memory."""
    task = AuditTask(
        policy.concepts, policy.retain, plan.seeds["audit"], plan.steps, 32, out / "searches",
        shows=open_bench(policy).shows(policy), base=Path(plan.model_dir),
    )  # fmt: skip
    every = [chosen(policy, attack) for attack in policy.audit.attacks]
    for name, directory in models.items():
        held: list[Flux1] = []
        digests = {"base": plan.model_digest, "erased": str(directory)}
        for attack in every:
            there = replace(task, which="base" if name == "base" else "erased", digests=digests)
            asked = key(
                "trial", [str(directory), attack.name, dict(attack.options), [asdict(c) for c in policy.concepts], plan.seeds["audit"]]
            )
            path = out / name / f"{attack.name}-{asked[:16]}.json"
            if not path.is_file():
                if not held:
                    held.append(Flux1.load(directory) if name == "base" else load_baked(Path(plan.model_dir), directory))
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, json.dumps(_tried(held[0], there, attack)))
            yield _read(name, attack.name, json.loads(path.read_text("utf-8")))


def _tried(model: Flux1, task: AuditTask, attack: Choice) -> dict[str, Any]:
    start, samples, reason = time.process_time(), [], ""
    with counting() as meter:
        try:
            samples = list(registry.get("attack", attack.name)(model, task, **attack.options))
        except Exception as error:  # one broken attack must not take the others with it
            log.exception("%s broke", attack.name)
            reason = f"{type(error).__name__}: {error}"
    seconds = time.process_time() - start
    named = [s for s in samples if s.prompt.concept is not None or s.prompt.kind == "general"]
    assert task.shows is not None
    hits = task.shows([s.prompt for s in named], np.stack([s.image for s in named])) if named else []
    shots = [[s.attack, s.prompt.concept, s.prompt.text, s.seed, bool(hit)] for s, hit in zip(named, hits, strict=True)]
    print(f"{attack.name}: {len(shots)} pictures, {meter.evaluations} evaluations, {seconds:.0f} s {reason}", flush=True)
    return {"shots": shots, "evaluations": meter.evaluations, "seconds": seconds, "reason": reason}


def _read(model: str, attack: str, found: Mapping[str, Any]) -> Trial:
    return Trial(model, attack, tuple(Shot(*shot) for shot in found["shots"]), found["evaluations"], found["seconds"], found["reason"])


if __name__ == "__main__":
    main()
