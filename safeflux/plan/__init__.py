"""What will be done, before anything is: the policy with every name resolved, and what it costs. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata

from safeflux import prompts
from safeflux.options import options
from safeflux.plan import exports
from safeflux.plan.attacking import chosen, images
from safeflux.plan.base import Geometry, find_base
from safeflux.plan.cost import Budget, Cost, budgets, costs, memory, precision, time_class
from safeflux.plan.earlier import Earlier, find_earlier
from safeflux.plan.erasing import TRAIN_PROMPTS
from safeflux.policy import Choice, Concept, Policy, licences
from safeflux.policy.attached import digests, refuse
from safeflux.policy.licences import Licence
from safeflux.registry import Kind

__all__ = ["Budget", "Cost", "Geometry", "Plan", "describe", "make_plan"]


@dataclass(frozen=True)
class Plan:
    """A policy that can be carried out.

    ``model_dir`` and ``model_digest`` are "" while the base model has to be downloaded. ``steps``: denoising steps of every
    picture. ``max_sequence_length``: T5 tokens. ``images``: pictures per concept, by attack. ``options``: everything the
    method and attacks will be called with, defaults included. ``seeds``: by stage, 0 .. 2^31. ``memory``: bytes while training.
    ``earlier``: the releases whose masks this one starts from. ``code``: the version of SafeFlux; with the policy's and the model's
    digest it decides whether finished work can be kept.
    """

    policy: Policy
    code: str
    model_dir: str
    model_digest: str
    geometry: Geometry
    steps: int
    max_sequence_length: int
    precision: str
    train_prompts: int
    images: Mapping[str, int]
    options: Mapping[str, Mapping[str, object]]
    seeds: Mapping[str, int]
    budgets: tuple[Budget, ...]
    costs: tuple[Cost, ...]
    memory: int
    time: str
    notes: tuple[str, ...]
    earlier: tuple[Earlier, ...] = ()
    licence: Licence = licences.UNKNOWN

    @property
    def evaluations(self) -> int:
        return sum(one.evaluations for one in self.costs)

    def to_json(self) -> dict[str, object]:
        """Plain data for ``json.dumps``; the policy without its text."""
        found = asdict(self)
        found["policy"] |= {"source": str(self.policy.source or "")}
        found["earlier"] = [asdict(one) | {"directory": str(one.directory)} for one in self.earlier]
        del found["policy"]["text"]
        return found | {"evaluations": self.evaluations}


def make_plan(policy: Policy) -> Plan:
    """Resolve everything a policy leaves open.

    Raises ``PolicyError`` when the release would bear another licence than its base allows.
    Raises ``PlanError`` when the base model is not where the policy says, is no FLUX, cannot be exported as the policy asks, when files
    or pictures that the policy names are not there, or when the audit is too small for its limits: with no miss at all, n pictures show
    a rate of at most L only if n >= ln(1 - confidence) / ln(1 - L).
    """
    refuse(policy)
    base = find_base(policy)
    geometry, licence = base.geometry, licences.gate(policy, base.directory)
    exports.refuse(policy.exports, geometry)
    return Plan(
        policy=policy,
        code=version(),
        model_dir=str(base.directory or ""),
        model_digest=base.digest or "",
        geometry=geometry,
        steps=geometry.steps,
        max_sequence_length=geometry.text_tokens,
        precision=precision(geometry),
        train_prompts=TRAIN_PROMPTS,
        images={attack.name: images(policy, attack) for attack in policy.audit.attacks},
        options=_all_options(policy),
        seeds={stage: seed_of(policy.seed, stage) for stage in ("prepare", "erase", "audit", "report")},
        budgets=budgets(policy),
        costs=costs(policy, geometry),
        memory=memory(policy, geometry),
        time=time_class(policy, geometry),
        notes=(*base.notes, *_licence(licence)),
        licence=licence,
        earlier=find_earlier(policy, base),
    )


def _licence(licence: Licence) -> tuple[str, ...]:
    if not licence.non_commercial:
        return ()
    said = f"the base model is under the FLUX.1 [dev] Non-Commercial License ({licence.because}), and so will the release be"
    return (said if licence.file else f"{said}; its text is not beside the model: put it there, since a release has to hold it",)


def seed_of(seed: int, stage: str) -> int:
    """Each stage has randomness of its own, so that more of it in one does not shift another."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{stage}".encode()).digest()[:4]) >> 1


def version() -> str:
    try:
        return metadata.version("safeflux")
    except metadata.PackageNotFoundError:  # a checkout on the path, not installed
        return "0+unknown"


def _all_options(policy: Policy) -> dict[str, dict[str, object]]:
    every: list[tuple[Kind, Choice]] = [("method", policy.method), *(("attack", chosen(policy, one)) for one in policy.audit.attacks)]
    found: dict[str, dict[str, object]] = {}
    for kind, choice in every:
        defaults = {name: option.default for name, option in options(kind, choice.name).items()}
        files = digests(policy, choice) if kind == "attack" else {}
        found[f"{kind} {choice.name}"] = defaults | dict(choice.options) | files
    return found


def describe(plan: Plan) -> str:
    """The plan for people: a few lines on what, how, how it is judged, and what it costs."""
    policy, geometry = plan.policy, plan.geometry
    kind = "guidance-distilled" if geometry.guidance else "step-distilled"
    where = plan.model_dir and f"{plan.model_dir}\n              sha256 {plan.model_digest}"
    lines = [
        f"Release       {policy.name} {policy.version}, seed {policy.seed}, SafeFlux {plan.code}",
        f"Base model    {policy.base.model}{f' at {policy.base.revision}' if policy.base.revision else ''}",
        *([f"              {where}"] if where else []),
        *_earlier(plan),
        f"{'':14}{geometry.double} double and {geometry.single} single blocks, {geometry.width} wide, {geometry.parameters:,} parameters",
        f"{'':14}{kind}: {plan.steps} steps, {plan.max_sequence_length} T5 tokens, {geometry.image_size} pixels, {plan.precision}",
    ]
    for i, concept in enumerate(policy.concepts):
        lines += [
            f"{'' if i else 'Erase':14}{line}" if n == 0 else f"{'':14}  {line}" for n, line in enumerate(_concept(concept, policy.seed))
        ]
    lines.append(f"Retain        {', '.join(policy.retain)}")
    lines += [f"{'' if i else 'With':14}{name}: {_settings(given)}" for i, (name, given) in enumerate(plan.options.items())]
    lines += [f"{'' if i else 'Judged by':14}{_budget(one)}" for i, one in enumerate(plan.budgets)]
    if policy.audit.stop_early:
        lines.append(f"{'':14}the erased model draws no more than it takes to decide a limit")
    lines += [
        f"{'' if i else 'Costs':14}{one.evaluations:>12,}  {one.stage}: {one.what}{_searched(one)}" for i, one in enumerate(plan.costs)
    ]
    lines.append(f"{'':14}{plan.evaluations:>12,}  model evaluations (one picture, one step) in all")
    lines.append(f"Needs         {plan.memory / 2**30:.1f} GiB of memory; {plan.time}")
    lines.append(
        f"Then          bake{_layout(policy)}, export ({', '.join(one.name for one in policy.exports)}), report, {_signing(policy)}"
    )
    return "\n".join([*lines, *(f"Note          {note}" for note in plan.notes)]) + "\n"


def _earlier(plan: Plan) -> list[str]:
    named = [" > ".join(str(told["name"]) for told in one.lineage) for one in plan.earlier]
    if plan.policy.base.merges:
        return [f"Merges        {', '.join(named)}: what they erased is where the training starts"]
    return [f"Extends       {one}: what they erased stays so" for one in named]


def _concept(concept: Concept, seed: int) -> list[str]:
    example = prompts.about(concept.name, concept.targets, concept.category, 1, split="train", seed=seed, label=concept.label)[0]
    stays = f"; {', '.join(concept.retain)} must stay" if concept.retain else ""
    return [
        f"{concept.name} ({concept.category}), also called {', '.join(concept.targets[1:]) or 'nothing else'}",
        f'such as "{example.text}"; instead draws {f"{concept.anchor!r}" if concept.anchor else "what the empty prompt draws"}{stays}',
        f'found by {concept.detector.name} as "{concept.label}"',
    ]


def _layout(policy: Policy) -> str:
    if policy.bake.layout == "removed":
        return " (neurons cut out)"
    return " (with decoys)" if policy.bake.decoys else ""


def _settings(given: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {setting}" for name, setting in given.items() if not isinstance(setting, list | tuple)) or "no options"


def _budget(one: Budget) -> str:
    limit = f"{one.limit.value:.4g}"
    sure = f"at {one.limit.confidence:.4g} confidence; shown by up to {one.hits} of {one.n}"
    if one.what == "retained":
        return f"{one.what}: at least {limit} of the base model's rate {sure} missing, where the base model misses none"
    return f"{one.what}: at most {limit} {sure} that draw it"


def _searched(one: Cost) -> str:
    return f"; encodes up to {one.texts:,} texts" if one.texts else ""


def _signing(policy: Policy) -> str:
    if policy.signing.demo:
        return "sign with a throw-away key"
    return f"sign with {policy.signing.key}" if policy.signing.key else "sign (no key yet: give one to `safeflux release`)"
