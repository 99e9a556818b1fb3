"""What each stage reads and writes. The order of the stages, and what makes one be done again, stand in ``release.py``.

Each function fills the empty directory ``out``; what it reads lies in ``run.work``, by the name of the stage that made it.
What goes into the release holds no times, host names or absolute paths, so that one that was interrupted has the digests
of one that was not. torch is imported here and nowhere above, and only when a stage needs it.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeflux import commitment, registry
from safeflux import report as reports
from safeflux.errors import StageError
from safeflux.files import digest, write_atomic
from safeflux.plan import Plan, make_plan
from safeflux.policy import Policy
from safeflux.policy.attached import folder
from safeflux.policy.licences import NOTICE, notice
from safeflux.published import lock_text
from safeflux.statements import make_report
from safeflux.types import JOURNAL, AuditTask, Finding, LowRank, Masks, Progress, Weights
from safeflux.workspace import key, recorded

if TYPE_CHECKING:
    from safeflux.audit import BeforeAfter
    from safeflux.models.flux1 import Flux1
    from safeflux_signing.signers import AnySigner

log = logging.getLogger(__name__)

_WANTED = ["*/*", "*.json", "LICENSE*"]  # of a repository: not the single file that often holds the model a second time
_KINDS = {Masks: "masks", LowRank: "low_rank", Weights: "weights"}

Make = Callable[["Run", Path, Path], None]  # a stage: fills the first directory; the second survives until it is done


@dataclass(frozen=True)
class Run:
    """What every stage is given. ``work`` holds a directory for each finished stage; so many ``jobs`` draw at the same time."""

    policy: Policy
    plan: Plan
    work: Path
    report_progress: Progress
    jobs: int = 1

    def progress(self, stage: str) -> Progress:
        return lambda what, done, total: self.report_progress(f"{stage}: {what}", done, total)

    def path(self, stage: str, *names: str) -> Path:
        return self.work.joinpath(stage, *names)

    def source(self, baked: Path | None = None) -> Source:
        """The base model or, with ``baked``, weights read back from disk."""
        return Source(Path(self.plan.model_dir), self.plan.precision, baked)

    def load(self, baked: Path | None = None) -> Flux1:
        return self.source(baked)()


@dataclass(frozen=True)
class Source:
    """Where a model lies, with ``baked`` its transformer's weights elsewhere; called, it is loaded on the best device there is."""

    base: Path
    precision: str
    baked: Path | None = None

    def __call__(self) -> Flux1:
        import torch

        from safeflux.bake import load_baked
        from safeflux.models.flux1 import Flux1

        device, dtype = "cuda" if torch.cuda.is_available() else "cpu", getattr(torch, self.precision)
        if self.baked is not None:
            return load_baked(self.base, self.baked, device=device, dtype=dtype)
        return Flux1.load(self.base, device=device, dtype=dtype)


def resolve(policy: Policy) -> Plan:
    """The plan, with the base model on this machine: a pinned one from the hub is downloaded if need be."""
    plan = make_plan(policy)
    if plan.model_dir:
        return plan
    from huggingface_hub import snapshot_download

    log.warning("downloading %s at %s", policy.base.model, policy.base.revision)
    try:
        snapshot_download(policy.base.model, revision=policy.base.revision, allow_patterns=_WANTED, ignore_patterns=["*.bin"])
    except (OSError, ValueError) as error:
        raise StageError(f"{policy.base.model} cannot be downloaded: {error}; put it into the hub's cache, or name a directory") from error
    return make_plan(policy)


def write_plan(run: Run, out: Path, scratch: Path) -> None:
    """``plan.json``: what was resolved, for people, who are told its notes now; later stages work from the plan itself. ``begun``: the time
    the release will bear."""
    for note in run.plan.notes:
        log.warning("%s", note)
    write_atomic(out / "begun", f"{int(time.time())}\n")
    write_atomic(out / "plan.json", json.dumps(run.plan.to_json(), indent=1, sort_keys=True) + "\n")


def commit(run: Run, out: Path, signer: AnySigner) -> None:
    """``commitment.jsonl``: the policy's digest, signed before anything is measured."""
    commitment.fix(run.policy, run.work, out, signer)


def prepare(run: Run, out: Path, scratch: Path) -> None:
    """Prompts, text embeddings, reference rollouts."""
    from safeflux.prepare import prepare as make

    make(run.policy, run.plan, out, model=run.load(), progress=run.progress("prepare"))


def erase(run: Run, out: Path, scratch: Path) -> None:
    """``edit.safetensors``, what the method found; ``edit.json``, what of it stands in the report."""
    from safeflux.audit_instruments import shows
    from safeflux.edits import erased, extended, product, read_mask, save_edit
    from safeflux.prepare import load_task

    model = run.load()
    model.free_text_encoders()  # prompts were embedded by prepare
    before = [read_mask(Path(run.plan.model_dir) / "transformer", one.directory / "transformer") for one in run.plan.earlier]
    begun = product(before) if before else None
    task = load_task(run.policy, run.plan, run.path("prepare"), device=str(model.device), shows=shows(run.policy), earlier=begun)
    method = registry.get("method", run.policy.method.name)
    edit = method(model, task, scratch=scratch, progress=run.progress("erase"), **run.policy.method.options)
    if begun is not None and not run.policy.base.merges:
        edit = extended(begun, edit)
    save_edit(edit, out / "edit.safetensors", {"method": run.policy.method.name})
    sites = [{"site": site, **counts} for site, counts in erased(edit).items()]
    machine = {"device": device_name(model.device.type), "guidance": model.guidance}
    told = read_json(scratch / JOURNAL) if (scratch / JOURNAL).is_file() else {}
    write_json(out / "edit.json", {"edit": {"kind": _KINDS[type(edit)], "sites": sites}, "machine": machine, "training": told})


def audit(run: Run, out: Path, scratch: Path) -> None:
    """``audit.json``, every line of the report; ``pictures/``, before and after; ``begun``, when. Drawings are kept in ``scratch``."""
    from safeflux.audit import audit as measure
    from safeflux.audit_drawing import Subject

    plan, baked = run.plan, recorded(run.work, "bake")
    assert baked is not None
    write_atomic(out / "begun", f"{commitment.audit_begun(run.work, scratch)}\n")
    root = run.policy.bake.layout
    weights = {name: digest for name, digest in baked.files.items() if name.startswith(f"{root}/")}
    found = measure(
        Subject(run.source(), plan.model_digest),
        Subject(run.source(run.path("bake", root)), key("baked", weights)),
        run.policy,
        audit_task(run, scratch / "searches"),
        store=scratch / "drawings",
        jobs=run.jobs,
    )
    pairs = save_pairs(found.pairs, out)
    write_json(out / "audit.json", {"findings": [asdict(f) for f in found.findings], "detectors": list(found.detectors), "pairs": pairs})


def audit_task(run: Run, cache: Path) -> AuditTask:
    """What the policy's attacks draw for; what is dear to find again goes into ``cache``."""
    policy, plan = run.policy, run.plan
    return AuditTask(
        policy.concepts,
        policy.retain,
        plan.seeds["audit"],
        plan.steps,
        batch=16,
        cache=cache,
        progress=run.progress("audit"),
        folder=folder(policy),
        base=Path(plan.model_dir),
    )


def report(run: Run, out: Path, scratch: Path) -> None:
    """The report for machines and for people, the model card, and the policy as it was carried out."""
    from safeflux import render

    policy = run.policy
    audited, erased = read_json(run.path("audit", "audit.json")), read_json(run.path("erase", "edit.json"))
    made = make_report(
        policy, run.plan,
        findings=[Finding(**finding) for finding in audited["findings"]], detectors=audited["detectors"], pairs=audited["pairs"],
        edit=erased["edit"] | read_json(run.path("bake", "difference.json")) | {"digest": digest(run.path("erase", "edit.safetensors"))},
        baked=read_json(run.path("bake", "parity.json")) | {"preserved": read_json(run.path("bake", "preserved.json"))},
        machine=erased["machine"],
        training=erased["training"], exports=read_json(run.path("check", "exports.json")),
    )  # fmt: skip
    data = reports.to_json(made)
    titled = [(pair["prompt"], *(run.path("audit", pair[side]).read_bytes() for side in ("base", "erased"))) for pair in data["pairs"]]
    settings = {**asdict(policy.report), "publisher": policy.signing.publisher}
    write_atomic(out / "erasure_report.json", reports.to_text(made))
    write_atomic(out / "erasure_report.html", render.html(data, titled))
    write_atomic(out / "README.md", render.model_card(data, settings))
    write_atomic(out / "policy.lock.yaml", lock_text(policy, data))
    if run.plan.licence.non_commercial:
        write_atomic(out / NOTICE, notice(policy.concepts))
    if data["pairs"]:
        shutil.copytree(run.path("audit", "pictures"), out / "pictures")


def assemble(run: Run, out: Path) -> None:
    """All files of the release but its signature: what was exported, and what is said of it."""
    for stage in ("export", "report"):
        shutil.copytree(run.path(stage), out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("done.json"))


def write_json(path: Path, value: object) -> None:
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def save_pairs(pairs: Sequence[BeforeAfter], out: Path) -> list[dict[str, object]]:
    """Write the pictures; what the report says of each pair, their files by path in the release."""
    from PIL import Image

    (out / "pictures").mkdir(exist_ok=True)
    said: list[dict[str, object]] = []
    for number, pair in enumerate(pairs, 1):
        names = {side: f"pictures/{number:03}-{side}.png" for side in ("base", "erased")}
        for side, name in names.items():
            Image.fromarray(getattr(pair, side)).save(out / name)
        said.append({"concept": pair.prompt.concept, "prompt": pair.prompt.text, "seed": pair.seed, "attack": "none", **names})
    return said


def device_name(kind: str) -> str:
    """A kind of device that torch knows, or, where it is a graphics card, what card."""
    if kind != "cuda":
        return kind
    import torch

    return torch.cuda.get_device_name()
