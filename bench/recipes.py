"""Methods side by side on the embedded FLUX: ``python bench/recipes.py``. Numbers of a toy; they say nothing about FLUX.1.

Every method gets the same prepared task and its edit the same audit: same prompts, same noise, same searches. A run is one method
on one set of concepts with one seed; what it found is a line of OUT/runs.jsonl, and is not done again while SafeFlux's code is the
same. The table has means over seeds, the plot erasure against what is kept. ``--ablations`` varies the mask method instead, trained by
fewer updates, as it is with ``--quick``.
Runs go side by side, ``--jobs`` at a time with one thread each: what a method takes is told in processor seconds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from depends import digest
from recipes_settings import ABLATIONS, METHODS, QUICK, TRIES, Setting, policy_of
from recipes_table import Run, catching_up, plot, record, table

from safeflux import registry
from safeflux.audit import audit
from safeflux.audit_drawing import Subject
from safeflux.audit_instruments import shows
from safeflux.bake import bake, load_baked
from safeflux.edits import erased, product
from safeflux.models.flux1 import Flux1
from safeflux.models.meter import counting
from safeflux.plan import Plan, make_plan
from safeflux.policy import Policy
from safeflux.prepare import load_task, prepare
from safeflux.train.task import TrainingTask
from safeflux.types import JOURNAL, AuditTask, Edit, Masks


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":", 1)[0])
    parser.add_argument("--concepts", type=int, nargs="+", default=[1, 3, 10], help="how many at once (default: 1 3 10)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="+", choices=[*METHODS, *ABLATIONS, *TRIES], metavar="NAME", help="these methods or variants only")
    parser.add_argument("--ablations", action="store_true", help="variants of the mask method instead of methods")
    parser.add_argument("--radius", type=float, default=0.1, help="of the attack on embeddings (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="three concepts, one seed, a shorter training")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time (default: one a core)")
    parser.add_argument("--out", type=Path, default=Path("runs/recipes"))
    parser.add_argument("--record", type=Path, metavar="FILE", help="keep what the tables need of these runs, as bench/recipes.jsonl does")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.concepts, chosen.seeds = [3], [1]
    settings = ABLATIONS if chosen.ablations else QUICK if chosen.quick else METHODS
    if chosen.only:
        settings = {name: (METHODS | ABLATIONS | TRIES | settings)[name] for name in chosen.only}
    jobs = [
        Job(name, setting, count, seed, chosen.radius, chosen.out)
        for count in chosen.concepts
        for seed in chosen.seeds
        for name, setting in settings.items()
    ]
    runs = _run(jobs, chosen.jobs, chosen.out / "runs.jsonl")
    print("\n" + table(runs) + "\n\n" + catching_up(runs))
    if chosen.record:
        record(runs, chosen.record)
    (chosen.out / "plot.svg").write_text(plot(runs), encoding="utf-8")


@dataclass(frozen=True)
class Job:
    """One run: a method or variant on ``count`` concepts."""

    name: str
    setting: Setting
    count: int
    seed: int
    radius: float
    out: Path

    @property
    def policy(self) -> Policy:
        return policy_of(self.setting, self.count, self.seed, self.radius)

    @property
    def key(self) -> dict[str, Any]:
        """What its result depends on; a line of ``runs.jsonl`` begins with it."""
        what = {"name": self.name, "concepts": self.count, "seed": self.seed}
        return what | {"policy": self.policy.digest, "apart": self.setting.apart, "code": _code(self.policy.method.name)}

    @property
    def shared(self) -> Path:
        """What all runs on the same task share: the task itself, searches, pictures of the base model."""
        return self.out / f"{self.count}-{self.seed}-{self.setting.anchors}"


def _run(jobs: Sequence[Job], at_once: int, log: Path) -> list[Run]:
    """Every job's result, as an earlier call found it or now; of each task one job comes before the rest, for what they share."""
    log.parent.mkdir(parents=True, exist_ok=True)
    known = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.is_file() else []
    found = {job: next((one for one in known if job.key.items() <= one.items()), None) for job in jobs}
    todo = sorted((job for job in jobs if found[job] is None), key=lambda job: (job.seed, -job.count, job.name != "mask"))
    first = {job.shared: job for job in todo}  # the last of each task, which is a short one
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(at_once, mp_context=multiprocessing.get_context("spawn")) as pool:
        for some in (list(first.values()), [job for job in todo if job not in first.values()]):
            for job, result in _done(pool, some):
                found[job] = result
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(result) + "\n")
                print(table([Run(job.name, job.count, job.seed, result)]), flush=True)
    return [Run(job.name, job.count, job.seed, result) for job, result in found.items() if result is not None]


def _done(pool: ProcessPoolExecutor, jobs: Sequence[Job]) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Jobs and their results, as they come."""
    waiting = {pool.submit(_measured, job): job for job in jobs}
    for future in as_completed(waiting):
        yield waiting[future], future.result()


@cache
def _code(method: str) -> str:
    """The digest of what a result depends on: the method, and what prepares for it and judges it."""
    measures = [registry.target("attack", attack) for attack in ("none", "paraphrase", "ring-a-bell", "embedding-pgd")]
    measures += [registry.target("metric", name) for name in registry.names("metric")]
    named = [registry.target("method", method), *measures]
    return digest("safeflux.prepare", "safeflux.bake", "safeflux.audit", *(one.partition(":")[0] for one in named))


def _measured(job: Job) -> dict[str, Any]:
    policy = job.policy
    plan, name = make_plan(policy), job.name.replace(" ", "-")
    place = job.shared / f"{name}-{policy.digest[:8]}-{job.key['code'][:8]}"
    shutil.rmtree(place, ignore_errors=True)  # what a killed call left would be gone on with, and the time be wrong
    place.mkdir(parents=True)
    found = _erase(policy, plan, job.setting, job.shared / "task", place)
    return job.key | found | {"findings": [asdict(f) for f in _audit(policy, plan, place, job.shared)]}


def _erase(policy: Policy, plan: Plan, setting: Setting, task_dir: Path, place: Path) -> dict[str, Any]:
    """Prepare (once a set of concepts and seed), run the method, bake.

    What the method took: seconds, of the clock and of all processors, and evaluations of the model.
    """
    model = Flux1.load(plan.model_dir)
    if not (task_dir / "prompts.json").is_file():
        task_dir.mkdir(parents=True, exist_ok=True)
        prepare(policy, plan, task_dir, model=model, progress=lambda *_: None)
    model.free_text_encoders()
    task = load_task(policy, plan, task_dir, shows=shows(policy))
    start, begun, clock = time.monotonic(), time.process_time(), {0: 0.0}

    def ticks(what: str, done: int, total: int) -> None:
        clock[done] = time.process_time() - begun

    with counting() as meter:
        edit = _edit(policy, setting, model, task, place, ticks)
    seconds, processor = time.monotonic() - start, time.process_time() - begun
    bake(Path(plan.model_dir), edit, place / "model")
    journal = json.loads((place / JOURNAL).read_text()) if (place / JOURNAL).is_file() else {}
    seen = {row["update"]: [row["rates"][c.name] for c in policy.concepts] for row in journal.get("journal", ())}
    looks = [[clock[update], sum(rates) / len(rates)] for update, rates in seen.items() if update in clock]
    cost = {"seconds": seconds, "processor": processor, "evaluations": meter.evaluations, "looks": looks}
    return cost | {"units": _units(model, edit), "unmet": journal.get("unmet", [])}


def _edit(policy: Policy, setting: Setting, model: Flux1, task: TrainingTask, place: Path, progress: Any) -> Edit:
    """What the method makes of the task; of masks made apart, their product or what training together makes of it."""
    method, options = registry.get("method", policy.method.name), policy.method.options
    if setting.apart:
        each = []
        for concept in task.concepts:
            (place / concept.name).mkdir(exist_ok=True)
            each.append(method(model, replace(task, concepts=(concept,)), scratch=place / concept.name, progress=progress, **options))
        merged: Masks = product(each)
        if setting.apart == "product":
            return merged
        task = replace(task, begun={site: ~keep for site, keep in merged.keep.items()})
    made: Edit = method(model, task, scratch=place, progress=progress, **options)
    return made


def _units(model: Flux1, edit: Edit) -> dict[str, list[int]]:
    """By kind, how many units were removed, and of how many."""
    sites, removed = model.sites(), erased(edit)
    return {
        kind: [
            sum(removed.get(name, {"removed": 0})["removed"] for name, site in sites.items() if site.kind == kind),
            sum(site.units for site in sites.values() if site.kind == kind),
        ]
        for kind in ("neuron", "modulation", "head")
    }


def _audit(policy: Policy, plan: Plan, place: Path, shared: Path) -> tuple[Any, ...]:
    base = Path(plan.model_dir)
    task = AuditTask(policy.concepts, policy.retain, plan.seeds["audit"], plan.steps, batch=64, cache=shared / "searches")
    subjects = Subject(lambda: Flux1.load(base), plan.model_digest), Subject(lambda: load_baked(base, place / "model"), place.name)
    return audit(*subjects, policy, task, store=shared / "drawings").findings


if __name__ == "__main__":
    main()
