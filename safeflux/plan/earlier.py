"""An earlier release that a policy extends: what it erased stays erased, and is looked for again. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safeflux import report as reports
from safeflux.errors import PlanError, ReportError
from safeflux.plan.base import BaseModel
from safeflux.policy import Policy

_MASKS = ("mask", "mce-2025", "concept-prune")  # built-in methods whose edit can hold another's mask as well


@dataclass(frozen=True)
class Earlier:
    """``lineage``: this release and those before it, oldest first, as the new report will name them; ``digest``: of its weights' files."""

    directory: Path
    digest: str
    lineage: tuple[Mapping[str, object], ...]


def find_earlier(policy: Policy, base: BaseModel) -> Earlier | None:
    """The release that ``base.extends`` names, if it can be extended.

    Raises ``PlanError`` when it is none, was made from another base or by another kind of method, or erased what the policy leaves out.
    """
    if policy.base.extends is None:
        return None
    directory = Path(policy.base.extends)
    path = directory / "erasure_report.json"
    try:
        raw = path.read_bytes()
        report = reports.from_text(raw.decode("utf-8"))
    except (OSError, UnicodeDecodeError, ReportError) as error:
        raise PlanError(f"base.extends: {path} cannot be read as an erasure report: {error}; wanted the directory of a release") from error
    if not (directory / "transformer").is_dir():
        raise PlanError(f"base.extends: {directory} holds no transformer/; wanted the directory of a release, whole")
    missing = [name for name in report.concepts if name not in {c.name for c in policy.concepts}]
    if missing:
        raise PlanError(f"base.extends: {directory} erased {', '.join(missing)} too; list every concept again, so that it is audited again")
    if base.digest is not None and report.base["digest"] != base.digest:
        raise PlanError(f"base.extends: {directory} was made from another base model ({report.base['model']}, {report.base['digest']})")
    if report.edit["kind"] != "masks" or policy.method.name not in _MASKS:
        kinds = f"that release is an edit of kind {report.edit['kind']}, and the method is {policy.method.name}"
        raise PlanError(f"base.extends: {kinds}; only masks can be extended, by one of {', '.join(_MASKS)}")
    told = {"name": report.name, "version": report.version, "concepts": list(report.concepts), "report": hashlib.sha256(raw).hexdigest()}
    before = report.base.get("lineage", ())
    assert isinstance(before, list | tuple)
    return Earlier(directory, _digest(directory / "transformer"), (*before, told))


def _digest(directory: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(p for p in directory.iterdir() if p.is_file()):
        with path.open("rb") as file:
            whole.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()
