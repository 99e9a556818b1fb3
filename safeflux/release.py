"""A release, from policy to signature: read this first.

    policy -> plan -> commit -> prepare -> erase -> bake -> audit -> export -> check -> report -> sign

``release`` runs the stages in this order, in a workspace that keeps what is finished. Of each stage it says here what its
result depends on; when that changes, the stage is done again, and so is every later one that works with what it made. What a
stage does stands in ``stages.py``, what a release says of itself in ``statements.py``.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import safeflux_signing
from safeflux import baking, commitment, exporting, files, registry, stages, statements, workspace
from safeflux import report as reports
from safeflux.errors import PlanError, StageError
from safeflux.plan import Plan
from safeflux.policy import Choice, Policy, Signing, load_policy
from safeflux.policy.attached import digests, photographs
from safeflux.registry import BUILT_IN, Kind
from safeflux.stages import Run
from safeflux.types import Progress, Report
from safeflux.workspace import Done, Workspace
from safeflux_signing import keynames, keys, signers
from safeflux_signing.errors import SigningError
from safeflux_signing.sign import sign
from safeflux_signing.signers import AnySigner

log = logging.getLogger(__name__)

CODE = {  # the part of SafeFlux that each stage runs, beside what the stages before it ran
    "plan": ("plan", "policy"),
    "commit": ("commitment.py",),
    "prepare": ("prepare.py", "prompts.py", "families", "models", "train", "detectors", "mini"),
    "erase": ("methods",),
    "bake": ("baking.py", "bake.py", "edits.py", "layouts.py", "minimality.py"),
    "draw": ("attacks", "audit_store.py"),
    "audit": ("audit*.py", "attacks", "metrics", "report.py", "statistics"),
    "export": ("exporting.py", "exporters"),
    "check": ("exporting.py", "check.py", "loaders", "detectors", "families", "models"),
    "report": ("statements.py", "published.py", "report.py", "render.py", "wording*.py", "templates", "schemas"),
    "sign": ("statements.py", "published.py"),
}
_EVERY = ("stages.py",)


@dataclass(frozen=True)
class ReleaseResult:
    """``release_dir``: what to publish, or where the unsigned files lie that are not to be. ``public_key``: what verifies it, if that is
    a key and it is known where its public half lies."""

    verdict: reports.Verdict
    release_dir: Path
    report: Report
    signed: bool
    public_key: Path | None


def release(
    policy: Policy | Path | str,
    *,
    out: Path | None = None,
    key: AnySigner | Path | None = None,
    allow_failing: bool = False,
    jobs: int = 1,
    progress: Progress | None = None,
) -> ReleaseResult:
    """Make a release from ``policy`` in the directory ``out`` (``runs/<name>``), going on where an earlier call there ended.

    ``key``: the signing key or whoever holds it, if not the policy's. A model that does not pass is left, unsigned, in
    ``out/unsigned``, unless ``allow_failing``: then it is signed like any other, and its claims say that it failed.
    So many ``jobs`` of the audit's attacks run at the same time, see ``examine``. ``progress`` is called after each step.

    Raises PolicyError; PlanError before anything is trained, also when there is no key; WorkspaceError when ``out`` cannot be
    used; StageError, ModelError and the rest of ``safeflux.errors`` when a stage could not do its work.
    """
    policy = policy if isinstance(policy, Policy) else load_policy(policy)
    root = Path("runs") / policy.name if out is None else Path(out)
    with workspace.open_workspace(root) as space:
        space.refuse_foreign("sign", "release")
        space.refuse_foreign("unsigned", "unsigned")
        signer, public_key = signing_key(policy.signing, space.work, key)
        run = Run(policy, stages.resolve(policy), space.work, progress or _silent, jobs)
        begun, content = _make(run, space, signer)
        report = reports.from_text(run.path("report", "erasure_report.json").read_text(encoding="utf-8"))
        verdict = reports.verdict(report)
        if verdict != "passed" and not allow_failing:
            space.publish("unsigned", content, "unsigned", lambda target, _: stages.assemble(run, target))
            return ReleaseResult(verdict, root / "unsigned", report, signed=False, public_key=None)
        _publish(run, space, signer, begun, content)
        space.withdraw("unsigned", "unsigned")
        return ReleaseResult(verdict, root / "release", report, signed=True, public_key=public_key)


def _make(run: Run, space: Workspace, signer: AnySigner) -> tuple[int, str]:
    """Every stage before the signature. Returns when the release was begun (seconds since 1970) and a key of all that it holds."""
    policy, plan, dated = run.policy, run.plan, commitment.source_date()

    def stage(name: str, make: stages.Make, parts: Mapping[str, object], after: Sequence[Done] = (), lasting: str | None = None) -> Done:
        run.report_progress(name, 0, 1)
        key = _key(name, parts, after)
        done = space.stage(name, key, lambda out, scratch: make(run, out, scratch), lasting=lasting)
        log.info("%s: %d files under key %s, %s", name, len(done.files), key[:16], "kept from an earlier run" if done.kept else "made now")
        run.report_progress(f"{name} (kept)" if done.kept else name, 1, 1)
        return done

    planned = stage("plan", stages.write_plan, {"policy": policy.digest, "model": plan.model_digest, "version": plan.code})
    fixed = {"policy": policy.digest, "signer": signers.ident(signer), "dated": dated}
    committed = stage("commit", lambda run, out, _: stages.commit(run, out, signer), fixed)
    prepared = stage("prepare", stages.prepare, _prepared_from(plan))
    method = {
        "method": _chosen("method", policy.method),
        "seed": plan.seeds["erase"],
        "limits": asdict(policy.limits),
        "earlier": [one.digest for one in plan.earlier],
        "merged": bool(policy.base.merges),
    }
    erased = stage("erase", stages.erase, method, [prepared])
    baked = stage("bake", lambda run, out, scratch: baking.bake(run, out, scratch, signer), baking.asked(policy, signer), [erased])

    attacks = _drawn_from(policy, plan)
    labelled = [files.source_digest(Path(one.labelled)) for one in policy.concepts if one.labelled]
    judging = {"limits": asdict(policy.limits), "pairs": policy.report.pairs, "labelled": labelled}
    some, n = photographs(policy)
    judging |= {"photographs": [files.source_digest(*some), n]} if n else {}
    drawings = _key("draw", attacks, [baked])  # pictures stay when only the limits they are judged by have changed
    audited = stage("audit", stages.audit, attacks | judging, [committed, baked], lasting=drawings)

    exported = stage("export", exporting.export, {"exports": [_chosen("exporter", one) for one in policy.exports]}, [baked])
    checked = stage("check", exporting.check, {"libraries": statements.environment()}, [erased, audited, exported])
    said = {"policy": policy.digest, "environment": statements.environment()}
    reported = stage("report", stages.report, said, [prepared, erased, baked, audited, checked])

    begun = dated if dated is not None else int(run.path(planned.stage, "begun").read_text(encoding="utf-8"))
    return begun, workspace.key("content", {"export": dict(exported.files), "report": dict(reported.files)})


def _publish(run: Run, space: Workspace, signer: AnySigner, begun: int, content: str) -> None:
    """The last stage: all files of the release together, signed, and in one step put where they are to be found."""

    def make(target: Path, scratch: Path) -> None:
        stages.assemble(run, target)
        made = stages.read_json(target / "erasure_report.json")
        audited = int(run.path("audit", "begun").read_text(encoding="utf-8"))
        release_id = f"{run.policy.name}-{run.policy.version}-{content[:12]}"
        try:
            sign(
                target,
                signer,
                release_id=release_id,
                name=run.policy.name,
                sequence=begun,  # later releases have higher numbers
                created=datetime.fromtimestamp(begun, UTC),
                claims=statements.claims(run.policy, made, datetime.fromtimestamp(audited, UTC)),
                commitment=run.path("commit", commitment.FILE).read_bytes(),
            )
        except SigningError as error:
            raise StageError(f"the release cannot be signed:\n{error}") from error

    run.report_progress("sign", 0, 1)
    signing = files.source_digest(Path(safeflux_signing.__file__).parent)
    parts = {"content": content, "begun": begun, "signer": signers.ident(signer), "signing": signing}
    done = space.publish("sign", _key("sign", parts), "release", make)
    run.report_progress("sign (kept)" if done.kept else "sign", 1, 1)


def _prepared_from(plan: Plan) -> dict[str, object]:
    """What prompts, embeddings and reference pictures depend on."""
    policy = plan.policy
    return {
        "model": plan.model_digest,
        "drawn": [plan.steps, plan.max_sequence_length, plan.precision, plan.train_prompts, plan.seeds["prepare"]],
        "concepts": [asdict(concept) | {"detector": _chosen("detector", concept.detector)} for concept in policy.concepts],
        "retain": policy.retain,
        "libraries": statements.environment(),
    }


def _drawn_from(policy: Policy, plan: Plan) -> dict[str, object]:
    """All of policy and plan that decides what the attacks draw."""
    return {
        "attacks": [_chosen("attack", one) | digests(policy, one) for one in policy.audit.attacks],
        "images": plan.images,
        "seed": plan.seeds["audit"],
        "stop_early": policy.audit.stop_early,
        "translations": [dict(one.translations) for one in policy.concepts],
    }


def _chosen(kind: Kind, choice: Choice) -> dict[str, object]:
    """A plug-in as part of a key: its name, its options, and the source of a third party's."""
    chosen: dict[str, object] = {"name": choice.name, "options": dict(choice.options)}
    if choice.name not in BUILT_IN[kind]:
        package = registry.target(kind, choice.name).partition(":")[0].partition(".")[0]
        spec = importlib.util.find_spec(package)
        found = [Path(one) for one in (spec.submodule_search_locations or [spec.origin or ""])] if spec else []
        chosen["source"] = files.source_digest(*(one for one in found if one.exists()))
    return chosen


def _key(name: str, parts: Mapping[str, object], after: Sequence[Done] = ()) -> str:
    sources = [file for pattern in (*CODE[name], *_EVERY) for file in sorted(Path(__file__).parent.glob(pattern))]
    return workspace.key(name, {**parts, "code": files.source_digest(*sources), "after": [done.digest for done in after]})


def signing_key(settings: Signing, work: Path, key: AnySigner | Path | None = None) -> tuple[AnySigner, Path | None]:
    """Who signs, and where the public half of the key lies (None if that is not known, or there is no key). Raises PlanError."""
    if key is not None and not isinstance(key, Path):
        return key, None
    named = key or settings.key or (_demo_key(work) if settings.demo else None)
    if named is None:
        raise PlanError(
            "no signing key: a release is signed, and nothing is trained that could not be. Make one with\n"
            "    safeflux keys new publisher.key\n"
            "and name it in the policy (signing: {key: publisher.key}) or give it with --key. To try things out: signing: {demo: true}"
        )
    try:
        where = keynames.named(named) if isinstance(named, str) else named
        return signers.load(where), signers.public_file(where)
    except SigningError as error:
        raise PlanError("\n".join(f"{finding}\n    {finding.remedy}" for finding in error.findings)) from error


def _demo_key(work: Path) -> Path:
    """A throw-away key in ``work``, made on first use. Its halves are put in place whole, the private one last."""
    path = work / "demo.key"
    if not path.is_file():
        making = work / "demo.partial-key"
        making.mkdir()
        keys.new(making / path.name, None)
        for name in ("demo.pub", "demo.key"):
            (making / name).replace(work / name)
        making.rmdir()
    log.warning(
        "SIGNING WITH A THROW-AWAY KEY (%s). It is unencrypted and proves nothing about who made this release: for trying out only, "
        "never publish what it signs. Make a real key with: safeflux keys new publisher.key",
        path,
    )
    return path


def _silent(what: str, done: int, total: int) -> None:
    pass
