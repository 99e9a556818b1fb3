"""The audit alone: any FLUX directory, released by SafeFlux or by anybody else, against a policy.

What comes of it is an erasure report like a release's, of a model whose making is not known: its ``subject`` says which files were
examined, by the digests that a signature of them would have, so that it can be signed as a claim on a release that somebody else made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from safeflux import report as reports
from safeflux import stages, statements, workspace
from safeflux.errors import StageError
from safeflux.files import digest, discard, write_atomic
from safeflux.plan import Plan
from safeflux.plan.base import geometry
from safeflux.policy import Base, Policy, Preset, load_policy
from safeflux.types import Progress, Report, Which
from safeflux_signing import manifest, names

if TYPE_CHECKING:
    from safeflux.audit import Audited
    from safeflux.audit_store import Spent


@dataclass(frozen=True)
class Examined:
    """``directory`` holds ``erasure_report.json``, ``erasure_report.html`` and the pictures. ``spent``: by attack and model."""

    verdict: reports.Verdict
    report: Report
    directory: Path
    spent: Mapping[tuple[str, Which], Spent]


def examine(
    model: Path | str,
    policy: Policy | Path | str,
    *,
    base: Path | str | None = None,
    preset: Preset | None = None,
    out: Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Examined:
    """Attack the diffusers directory ``model`` as ``policy`` says, with the policy's base model, or ``base``, as the control.

    ``preset`` takes the place of the policy's, and of its number of pictures. ``out`` (``runs/audit-NAME`` of the directory) keeps what
    was drawn: the same call goes on from there. A concept that the base model does not draw either is unchecked, and the verdict "failed".
    ``jobs`` attacks run at the same time, each in a process that holds a model; a script that asks for several guards what it does with
    ``if __name__ == "__main__":``, as always with Python's processes.

    Whoever made ``model`` need not be trusted: of it only safetensors, configurations and tokenizers are read, and no code is run.

    Raises PolicyError; PlanError when a model is not there or the audit could never show the limits; StageError when the two models do
    not draw pictures that can be compared, or ``model`` is changed meanwhile; ModelError and WorkspaceError.
    """
    policy = _asked(policy if isinstance(policy, Policy) else load_policy(policy), base, preset)
    model = Path(model)
    plan = stages.resolve(policy)
    _comparable(model, plan)
    with workspace.open_workspace(Path("runs") / f"audit-{model.resolve().name}" if out is None else out) as space:
        digests = _digests(model)
        run = stages.Run(policy, plan, space.work, progress or (lambda *_: None), jobs)
        found = _audit(run, model, digests["dirHash1"])
        if _digests(model) != digests:
            raise StageError(f"{model} was changed while it was examined; what was found is about no one model: examine it again")
        report = _report(run, model, found, {"name": model.resolve().name, "digest": digests}, space.root)
        return Examined(reports.verdict(report), report, space.root, found.spent)


def _asked(policy: Policy, base: Path | str | None, preset: Preset | None) -> Policy:
    """The policy for an audit: nothing is extended or merged, since nothing is made."""
    chosen = replace(policy.base, extends=None, merges=())
    if base is not None:
        chosen = Base(str(base) if str(base).startswith("builtin:") else str(Path(base).absolute()))
    audit = policy.audit if preset is None else replace(policy.audit, preset=preset, images=None)
    return replace(policy, base=chosen, audit=audit)


def _comparable(model: Path, plan: Plan) -> None:
    """Base and examined model have to draw from the same noise."""
    mine, theirs = geometry(model, f"the model {model}"), plan.geometry
    differ = [name for name in ("channels", "image_size", "vae_scale", "guidance") if getattr(mine, name) != getattr(theirs, name)]
    if differ:
        told = ", ".join(f"{name} {getattr(mine, name)} against {getattr(theirs, name)}" for name in differ)
        raise StageError(f"{model} and its base {plan.model_dir} cannot draw from the same noise: {told}; name the right one with --base")


def _digests(model: Path) -> dict[str, str]:
    """The digests under which a signature of all the model's files knows them."""
    return manifest.subject_digests(manifest.Entry(name, digest) for name, digest in sorted(_files(model)))


def _files(model: Path) -> Iterator[tuple[str, str]]:
    """Each file's name and SHA-256, without the files that a signature leaves out. Links to files count as what they point to.

    Raises StageError for a directory that is a link: what is in it would be attacked, and not be told by any digest.
    """
    for folder, inner, files in os.walk(model):
        if linked := next((path for path in (Path(folder) / name for name in inner) if path.is_symlink()), None):
            raise StageError(f"{linked} is a link to a directory, so its files are not the model's own: put a copy in its place")
        for path in (Path(folder) / name for name in files):
            name = path.relative_to(model).as_posix()
            if not names.reserved(name):
                yield name, digest(path)


def _audit(run: stages.Run, model: Path, digest: str) -> Audited:
    from safeflux.audit import audit
    from safeflux.audit_drawing import Subject

    task = stages.audit_task(run, run.work / "searches")
    subjects = Subject(run.source(), run.plan.model_digest), Subject(stages.Source(model, run.plan.precision), digest)
    return audit(*subjects, run.policy, task, store=run.work / "drawings", jobs=run.jobs)


def _report(run: stages.Run, model: Path, found: Audited, subject: Mapping[str, object], out: Path) -> Report:
    """The report of what was found, also as files in ``out``."""
    import torch

    from safeflux import render
    from safeflux.edits import unmoved
    from safeflux.minimality import cut_out, difference
    from safeflux.models.flux1 import GUIDANCE

    discard(out / "pictures")  # of an earlier call with other pairs
    pairs, source = stages.save_pairs(found.pairs, out), Path(run.plan.model_dir) / "transformer"
    made = statements.audit_report(
        run.policy,
        run.plan,
        findings=found.findings,
        detectors=found.detectors,
        pairs=pairs,
        subject=subject,
        edit={
            "kind": "unknown",
            "sites": [{"site": name, **counts} for name, counts in cut_out(source, model / "transformer").items()],
            **difference(source, unmoved(source, model / "transformer")),
        },
        machine={
            "device": stages.device_name("cuda" if torch.cuda.is_available() else "cpu"),
            "guidance": GUIDANCE if run.plan.geometry.guidance else None,
        },
    )
    data = reports.to_json(made)
    titled = [(pair["prompt"], (out / pair["base"]).read_bytes(), (out / pair["erased"]).read_bytes()) for pair in data["pairs"]]
    write_atomic(out / "erasure_report.json", reports.to_text(made))
    write_atomic(out / "erasure_report.html", render.html(data, titled))
    return reports.from_json(data)
