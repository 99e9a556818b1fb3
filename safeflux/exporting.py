"""The two stages after the audit: the formats that a policy asks for, and the check of each of them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from safeflux import registry
from safeflux.policy import Choice, Policy
from safeflux.stages import Run, read_json, write_json

ROOT = "diffusers"  # the exporter that fills the root of a release; the others have exports/<name>/


def place(release: Path, name: str) -> Path:
    """Where in a release an exporter writes."""
    return release if name == ROOT else release / "exports" / name


def chosen(policy: Policy) -> Iterator[Choice]:
    """The policy's exports, first the diffusers directory, which every release has."""
    yield next((choice for choice in policy.exports if choice.name == ROOT), Choice(ROOT))
    yield from (choice for choice in policy.exports if choice.name != ROOT)


def _layout(policy: Policy, choice: Choice) -> Literal["dense", "removed"]:
    """Which of the baked models an export is made from: those that are no diffusers directory from the dense one."""
    return policy.bake.layout if choice.name == ROOT else "removed" if choice.name == "removed" else "dense"


def export(run: Run, out: Path, scratch: Path) -> None:
    """The release's model files: the diffusers directory in ``out`` itself, any other format in ``out/exports``."""
    for choice in chosen(run.policy):
        place(out, choice.name).mkdir(parents=True, exist_ok=True)
        write = registry.get("exporter", choice.name)
        baked, progress = run.path("bake", _layout(run.policy, choice)), run.progress("export")
        write(baked, place(out, choice.name), base=Path(run.plan.model_dir), progress=progress, **choice.options)


def check(run: Run, out: Path, scratch: Path) -> None:
    """``exports.json``: of each export, how it was loaded again in another process, and what came of it. StageError if it is not the model
    that was audited."""
    from safeflux import check as checking
    from safeflux.bake import in_force
    from safeflux.edits import load_edit

    policy, plan, exported = run.policy, run.plan, run.path("export")
    findings, seed = read_json(run.path("audit", "audit.json"))["findings"], plan.seeds["audit"]
    texts, reference = checking.compared(policy.concepts, policy.retain, seed), scratch / "reference.safetensors"
    model, edit = run.load(), run.path("erase", "edit.safetensors")
    with in_force(model, load_edit(edit)):
        checking.write_reference(model, texts, reference, seed=seed, steps=plan.steps)
    del model
    gc.collect()  # the other process needs the memory
    choices, told = list(chosen(policy)), list[dict[str, Any]]()
    for done, choice in enumerate(choices):
        run.progress("check")(choice.name, done, len(choices))
        moved = _layout(policy, choice) == "removed" or policy.bake.decoys
        again = moved and choice.name not in (ROOT, "removed", "delta")  # made from the weights at the root, decoys and all
        request = checking.Request(
            choice.name, str(place(exported, choice.name)), str(exported), plan.model_dir, None if again else str(edit), str(reference),
            texts, [asdict(concept) for concept in policy.concepts], seed, plan.steps, plan.precision, moved and not again,
        )  # fmt: skip
        told.append(checking.check(request, findings, policy.limits.detection))
    write_json(out / "exports.json", told)
