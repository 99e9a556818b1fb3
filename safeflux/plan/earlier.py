"""Earlier releases that a policy extends or merges: what they erased is erased again, and looked for again. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safeflux import report as reports
from safeflux.errors import PlanError, ReportError
from safeflux.files import digest
from safeflux.plan.base import BaseModel
from safeflux.policy import Policy

_MASKS = ("mask", "mce-2025", "concept-prune")  # built-in methods whose edit can hold another's mask as well; the first can start from it


@dataclass(frozen=True)
class Earlier:
    """``lineage``: this release and those before it, oldest first, as the new report will name them; ``digest``: of its weights' files."""

    directory: Path
    digest: str
    lineage: tuple[Mapping[str, object], ...]


def find_earlier(policy: Policy, base: BaseModel) -> tuple[Earlier, ...]:
    """The releases that ``base.extends`` or ``base.merges`` names, if they can be.

    Raises ``PlanError`` when one is none, was made from another base or by another kind of method, or erased what the policy leaves out.
    """
    if policy.base.extends is not None:
        return (_found(Path(policy.base.extends), "base.extends", policy, base),)
    return tuple(_found(Path(one), "base.merges", policy, base) for one in policy.base.merges)


def _found(directory: Path, field: str, policy: Policy, base: BaseModel) -> Earlier:
    path = directory / "erasure_report.json"
    try:
        raw = path.read_bytes()
        report = reports.from_text(raw.decode("utf-8"))
    except (OSError, UnicodeDecodeError, ReportError) as error:
        raise PlanError(f"{field}: {path} cannot be read as an erasure report: {error}; wanted the directory of a release") from error
    if not (directory / "transformer").is_dir():
        raise PlanError(f"{field}: {directory} holds no transformer/; wanted the directory of a release, whole")
    missing = [name for name in report.concepts if name not in {c.name for c in policy.concepts}]
    if missing:
        raise PlanError(f"{field}: {directory} erased {', '.join(missing)} too; list every concept again, so that it is audited again")
    if base.digest is not None and report.base["digest"] != base.digest:
        raise PlanError(f"{field}: {directory} was made from another base model ({report.base['model']}, {report.base['digest']})")
    able = _MASKS if field == "base.extends" else _MASKS[:1]
    if report.edit["kind"] != "masks" or policy.method.name not in able:
        kinds = f"{directory} is an edit of kind {report.edit['kind']}, and the method is {policy.method.name}"
        raise PlanError(f"{field}: {kinds}; wanted masks, and one of {', '.join(able)}")
    told = {"name": report.name, "version": report.version, "concepts": list(report.concepts), "report": hashlib.sha256(raw).hexdigest()}
    before = report.base.get("lineage", ())
    assert isinstance(before, list | tuple)
    return Earlier(directory, _digest(directory / "transformer"), (*before, told))


def _digest(directory: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(p for p in directory.iterdir() if p.is_file()):
        whole.update(f"{path.name} {digest(path)}\n".encode())
    return whole.hexdigest()
