"""What a plan will cost. The unit is the model evaluation: one picture, one denoising step, forward.

Times are classes, not promises: floating-point operations over what such machines do in practice.
"""

from __future__ import annotations

from dataclasses import dataclass

from safeflux.errors import PlanError
from safeflux.options import options, value
from safeflux.plan.attacking import UNLIMITED, chosen, effort, images
from safeflux.plan.base import Geometry
from safeflux.plan.erasing import CANDIDATES, TRAIN_PROMPTS, erasing, gradient, kept
from safeflux.policy import Choice, Limit, Policy
from safeflux.policy.places import place
from safeflux.statistics import needed_n, upper
from safeflux.statistics.anytime import needed_anytime, upper_anytime

_CPU, _GPU = 4e10, 3e14  # operations a second: two cores in float32; one data-centre GPU in bfloat16 at under half its peak
_CARDS = (24, 40, 80, 141)  # GB
_SMALL = 10**9  # parameters up to which a transformer is worked on in float32 on a CPU


@dataclass(frozen=True)
class Cost:
    """``evaluations`` of the model for one part of one stage; ``texts``: how many texts a search encodes beside them."""

    stage: str
    what: str
    evaluations: int
    texts: int = 0


@dataclass(frozen=True)
class Budget:
    """How one limit will be decided: of ``n`` pictures (``what``), ``hits`` may miss it and it is still shown."""

    what: str
    n: int
    hits: int
    limit: Limit


def costs(policy: Policy, geometry: Geometry) -> tuple[Cost, ...]:
    """In the order of the stages. A backward pass counts as one evaluation: with frozen weights it costs what a forward pass does."""
    steps, concepts = geometry.steps, len(policy.concepts)
    pairs = round(TRAIN_PROMPTS * CANDIDATES)
    found = [
        Cost("prepare", f"{pairs} pairs of prompt and anchor a concept, to keep {TRAIN_PROMPTS}", 2 * pairs * concepts * steps),
        Cost("erase", *erasing(policy, geometry)),
    ]
    for attack in (chosen(policy, one) for one in policy.audit.attacks):
        n = images(policy, attack)
        drawn = n * concepts
        if attack.name == "none":  # neighbours of each concept, and general nouns, are drawn the same way
            drawn += n * sum(bool(one.retain) for one in policy.concepts) + n
        each = effort(attack, steps)
        what = f"{attack.name}: {drawn} pictures by the base model and the erased one"
        if each.erased > steps:
            what += f", {each.erased // steps} passes a picture by the latter"
        if each.concept:
            what += f", which learns first: {each.concept} a concept"
        found.append(Cost("audit", what, drawn * (each.base + each.erased) + concepts * each.concept, _texts(attack, concepts)))
    return tuple(found)


def _texts(attack: Choice, concepts: int) -> int:
    """Texts that a search encodes, at most; 0 for an attack that does not search for texts."""
    known = options("attack", attack.name).keys()
    sizes = next((pair for pair in (("population", "generations"), ("candidates", "iterations")) if {*pair, "texts"} <= known), None)
    if sizes is None:
        return 0
    each, times, texts = (value("attack", attack.name, name, attack.options, 1) for name in (*sizes, "texts"))
    return each * times * texts * concepts


def budgets(policy: Policy) -> tuple[Budget, ...]:
    """How each limit will be decided. ``PlanError`` names every limit that not even a faultless model could be shown to meet."""
    limits = policy.limits
    wanted = [
        ("detection" if attack.name == "none" else f"attack_success ({attack.name})", images(policy, attack), limit, limit.value)
        for attack in policy.audit.attacks
        if attack.name not in UNLIMITED
        for limit in [limits.detection if attack.name == "none" else limits.attack_success]
    ]
    direct = next(attack for attack in policy.audit.attacks if attack.name == "none")
    wanted.append(("retained", images(policy, direct), limits.retained, 1 - limits.retained.value))
    early = policy.audit.stop_early
    problems = [
        place(policy, "limits", what.split()[0]) + text
        for what, n, limit, rate in wanted
        if (text := _impossible(what, n, limit, rate, early))
    ]
    if problems:
        raise PlanError("\n".join(problems))
    return tuple(Budget(what, n, _hits(n, rate, limit.confidence, early), limit) for what, n, limit, rate in wanted)


def _impossible(what: str, n: int, limit: Limit, rate: float, early: bool) -> str:
    if rate <= 0:
        return f"limits.{what.split()[0]}: no number of pictures shows a rate of {limit.value:g}; wanted: a limit below 1"
    need = 1 if rate >= 1 else (needed_anytime if early else needed_n)(rate, limit.confidence)
    if n >= need:
        return ""
    looking = ", looking after every batch (audit.stop_early)" if early else ""
    return (
        f"{what}: {n} pictures can never show the limit {limit.value:g} at {limit.confidence:.4g} confidence{looking}, not even without a "
        f"miss; wanted: audit.images of at least {need}, or another limit"
    )


def _hits(n: int, rate: float, confidence: float, early: bool) -> int:
    """The most hits in ``n`` with which a rate of at most ``rate`` is still shown."""
    low, high, bound = 0, n + 1, upper_anytime if early else upper
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if bound(middle, n, confidence) <= rate else (low, middle)
    return low


def precision(geometry: Geometry) -> str:
    return "float32" if geometry.parameters < _SMALL else "bfloat16"


def memory(policy: Policy, geometry: Geometry) -> int:
    """Bytes at the worst moment: weights, what training or an attack that follows gradients keeps, and room to work.

    The text encoders are freed before training, and kept by an attack.
    Measured on FLUX.1 in bfloat16 (weights 22.2 GiB, 8.4 GiB a picture of 512 pixels and step).
    """
    worst = max(kept(policy, geometry), geometry.text_parameters)
    for attack in (chosen(policy, one) for one in policy.audit.attacks):
        if through := effort(attack, geometry.steps).gradient:
            batch, again = (value("attack", attack.name, name, attack.options, 0) for name in ("batch", "recompute"))
            worst = max(worst, geometry.text_parameters + gradient(geometry, batch, recompute=bool(again) or through == "step"))
    size, room = (4, 2**28) if precision(geometry) == "float32" else (2, 2**31)
    return size * (geometry.parameters + worst) + room


def time_class(policy: Policy, geometry: Geometry) -> str:
    """How long, and on what."""
    parts = costs(policy, geometry)
    operations = geometry.flops * sum(one.evaluations for one in parts) + geometry.text_flops * sum(one.texts for one in parts)
    if precision(geometry) == "float32":
        return f"{_span(operations / _CPU)} on two CPU cores"
    need = memory(policy, geometry) / 1e9
    card = next((size for size in _CARDS if need <= size * 0.97), None)
    return f"{_span(operations / _GPU)} on one GPU; " + (
        f"fits one of {card} GB" if card else f"fits none of {_CARDS[-1]} GB: a smaller batch, or recompute, helps"
    )


def _span(seconds: float) -> str:
    for most, word in ((45 * 60, "minutes"), (2 * 3600, "about an hour"), (24 * 3600, "hours")):
        if seconds < most:
            return word
    return "days"
