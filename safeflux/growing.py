"""A finished release in more formats: exported, checked like those it had, and signed anew with a higher sequence number."""

from __future__ import annotations

import gc
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safeflux import commitment, exporting, files, registry, workspace
from safeflux import report as reports
from safeflux.errors import PlanError, TrustError
from safeflux.merge import released_policy
from safeflux.plan import exports
from safeflux.plan.base import EMBEDDED, directory, directory_digest, geometry
from safeflux.policy import Choice, Limit, ReportSettings
from safeflux.types import Progress, Report
from safeflux.verify import ERASURE_REPORT, verify
from safeflux_signing import commitments, names
from safeflux_signing.errors import SigningError
from safeflux_signing.keys import PublicKey
from safeflux_signing.manifest import Release
from safeflux_signing.sign import sign
from safeflux_signing.signers import AnySigner, Certified
from safeflux_signing.trust import TrustStore
from safeflux_signing.verify import Verified

log = logging.getLogger(__name__)

Told = list[Mapping[str, Any]]


@dataclass(frozen=True)
class Grown:
    """``exports``: what the report says of the formats that were added; ``sequence``: the number that the release has now."""

    release_dir: Path
    exports: tuple[Mapping[str, Any], ...]
    sequence: int


def grow(
    release_dir: Path | str,
    formats: Sequence[Choice],
    *,
    key: AnySigner,
    base: str | None = None,
    signed_by: TrustStore | Sequence[PublicKey] = (),
    progress: Progress | None = None,
) -> Grown:
    """Add ``formats`` (exporters and their options) to the release that ``key`` signed, and sign it anew with it.

    What the new formats are compared with is the release's own model; the direct prompts are those that its audit asked first. The format
    "diffusers" writes nothing, and has what is there checked again. ``base``: the model it was made from, a directory or
    ``builtin:flux-mini``; only the delta needs it. ``signed_by``: keys of others who signed too, or a trust store that has
    everybody, without which nobody who signs by Sigstore, and so has no key, could be known. What others signed were other files, so it
    does not stay, and a warning says so. The release is replaced in one step; if that is not reached, nothing has changed.

    Raises TrustError unless it verifies, or where that store is missing; PlanError for a format that it has, that its width rules out or
    that needs a base; StageError for one that cannot be made or is not the model that was audited; WorkspaceError while another run is at
    work beside it.
    """
    root = Path(release_dir).resolve()
    verified, old = _verified(root, _trusted(key, signed_by))
    report = reports.from_text((root / "erasure_report.json").read_text(encoding="utf-8"))
    model = _base(report, base)
    _refuse(root, formats, model)
    told: Told = []
    sequence = max(old.sequence + 1, _now())

    def make(out: Path, scratch: Path) -> None:
        shutil.copytree(root, out, dirs_exist_ok=True)  # no hard links, though they cost nothing: such files are not signed
        told.extend(_added(out, scratch, formats, model, report, progress or (lambda *_: None)))
        kept = [one for one in report.exports if one["format"] not in {new["format"] for new in told}]
        grown = replace(report, exports=(*kept, *told))
        _say(out, grown)
        _sign(out, key, verified, old, grown, sequence)

    _replaced(root, make)
    return Grown(root, tuple(told), sequence)


def _trusted(key: AnySigner, signed_by: TrustStore | Sequence[PublicKey]) -> TrustStore | Sequence[PublicKey]:
    """Under whom the release has to verify before it is touched."""
    if isinstance(signed_by, TrustStore):
        return signed_by
    if isinstance(key, Certified):
        raise TrustError("who signs by Sigstore has no key to know the release by; name a trust file that has the identity (--signed-by)")
    return [key.public_key(), *signed_by]


def _verified(root: Path, trust: TrustStore | Sequence[PublicKey]) -> tuple[Verified, Release]:
    try:
        verified = verify(root, trust)
    except SigningError as error:
        said = "\n".join(f"  {finding}\n      {finding.remedy}" for finding in error.findings)
        raise TrustError(f"{root} does not verify, and nothing was added to it:\n{said}") from error
    if verified.release is None or verified.release.name is None or not (root / "erasure_report.json").is_file():
        raise TrustError(f"{root} was signed by another tool; wanted a release by SafeFlux, with its erasure report")
    lost = [claim.predicate_type for claim in verified.claims if not claim.required]
    for what in (*verified.cosigners, *lost):
        log.warning("%s was signed by somebody else for the files as they were; it does not stay in the release: ask for it anew", what)
    return verified, verified.release


def _base(report: Report, named: str | None) -> Path | None:
    """The directory of the base, where it is known. PlanError if it is another than the release was made from."""
    known = named or (EMBEDDED if report.base["model"] == EMBEDDED else None)
    if known is None:
        return None
    found = directory(known)
    if (digest := directory_digest(found)) != report.base["digest"]:
        raise PlanError(f"the release was made from a base with digest {report.base['digest']}; {known} has {digest}")
    return found


def _refuse(root: Path, formats: Sequence[Choice], base: Path | None) -> None:
    """Raise PlanError for what cannot be added; RegistryError for what is no format."""
    for choice in formats:
        registry.target("exporter", choice.name)
        registry.target("loader", choice.name)
        if choice.name != exporting.ROOT and exporting.place(root, choice.name).exists():
            raise PlanError(f"{root} has the format {choice.name} already; take exports/{choice.name} out by making the release anew")
        if choice.name == "delta" and base is None:
            raise PlanError("the delta is what a release is to its base, and the release does not say where that is; name it with --base")
    exports.refuse(formats, geometry(root, f"the release {root}"))


def _added(out: Path, scratch: Path, formats: Sequence[Choice], base: Path | None, report: Report, progress: Progress) -> Told:
    """Write each format into the release ``out``, and check it there."""
    from safeflux import check
    from safeflux.exporters import delta
    from safeflux.models.flux1 import Flux1

    listed: Any = report.policy["concepts"]
    seed, steps, precision = report.findings[0].seed, int(str(report.base["steps"])), str(report.environment["precision"])
    limits: Any = report.limits
    texts = check.compared([check.concept(said) for said in listed], list(released_policy(out).get("retain", ())), seed)
    model = Flux1.load(out, device=check.device(), dtype=check.dtype(precision))
    check.write_reference(model, texts, scratch / "reference.safetensors", seed=seed, steps=steps)
    del model
    gc.collect()  # exporters and the other process need the memory
    told: Told = []
    for choice in formats:
        place = exporting.place(out, choice.name)
        if choice.name != exporting.ROOT:
            place.mkdir(parents=True)
            source = base if choice.name == "delta" else out
            registry.get("exporter", choice.name)(out, place, base=source, progress=progress, **choice.options)
        masks = str(place / delta.FILE) if choice.name == "delta" else None  # of whatever layout the release is
        request = check.Request(
            choice.name, str(place), str(out), None if base is None else str(base), masks, str(scratch / "reference.safetensors"), texts,
            listed, seed, steps, precision,
        )  # fmt: skip
        told.append(check.check(request, [asdict(finding) for finding in report.findings], Limit(**limits["detection"])))
    return told


def _say(out: Path, report: Report) -> None:
    """The report and the model card, with the formats in them."""
    from safeflux import render

    policy, data = released_policy(out), reports.to_json(report)
    titled = [(pair["prompt"], *((out / pair[side]).read_bytes() for side in ("base", "erased"))) for pair in data["pairs"]]
    settings = asdict(ReportSettings(**policy.get("report", {}))) | {"publisher": policy.get("signing", {}).get("publisher")}
    files.write_atomic(out / "erasure_report.json", reports.to_text(report))
    files.write_atomic(out / "erasure_report.html", render.html(data, titled))
    files.write_atomic(out / "README.md", render.model_card(data, settings))


def _sign(out: Path, key: AnySigner, verified: Verified, old: Release, report: Report, sequence: int) -> None:
    """The same claims about the files as they are now, the report's among them; what was fixed before the audit stays as it was signed."""
    said = [(c.predicate_type, c.predicate) for c in verified.claims if c.required and c.commitment is None]
    content = workspace.key("content", {"files": {n: d for n, d in files.tree(out).items() if n not in names.SIDE_FILES}})
    sign(
        out,
        key,
        release_id=f"{old.name}-{report.version}-{content[:12]}",
        name=old.name,
        sequence=sequence,
        created=datetime.fromtimestamp(_now(), UTC),
        claims=[(kind, reports.to_json(report) if kind == ERASURE_REPORT else predicate) for kind, predicate in said],
        commitment=_fixed(out),
    )


def _fixed(out: Path) -> bytes | None:
    """The line that was signed before the audit was begun, if there is one."""
    for line in (out / names.CLAIMS).read_bytes().splitlines(keepends=True):
        try:
            commitments.line(line)
        except SigningError:
            continue
        return line
    return None


def _replaced(root: Path, make: Callable[[Path, Path], None]) -> None:
    """Put what ``make`` makes in the place of ``root`` in one step; where a workspace published it, with its knowledge."""
    if root.name == "release" and workspace.recorded(root.parent / "work", "sign") is not None:
        with workspace.open_workspace(root.parent) as space:
            space.amend("sign", root.name, make)
        return
    partial, aside = (root.with_name(f".{root.name}.{what}") for what in ("partial", "before"))
    files.discard(partial)
    (partial / root.name).mkdir(parents=True)  # it bears its name while it is made
    try:
        with tempfile.TemporaryDirectory(prefix="safeflux-") as scratch:
            make(partial / root.name, Path(scratch))
        files.discard(aside)
        root.rename(aside)
        (partial / root.name).rename(root)
    finally:
        files.discard(partial)
    files.discard(aside)


def _now() -> int:
    dated = commitment.source_date()
    return int(time.time()) if dated is None else dated
