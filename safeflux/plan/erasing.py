"""What erasing takes: prompts, model evaluations, and numbers kept at the worst moment.

A method is told by its options: one with ``updates`` trains, one with ``images`` only looks at pictures, one with neither solves.
"""

from __future__ import annotations

import math

from safeflux.options import options, value
from safeflux.plan.base import Geometry
from safeflux.policy import Policy

TRAIN_PROMPTS = 40  # per concept: twice the paper's number, since half of them name something else as well
PAPERS_PROMPTS = 20  # per concept: the paper's number, which its recipe keeps to
CANDIDATES = 2.5  # pairs drawn for each one kept, since the paper's filter drops some
EVERY, LOOK, KEPT = 10, 24, 48  # the mask: updates between looks, pictures a line then, of concepts and of what must stay
SURE, TRIES = 64, 6  # the mask: pictures a line for sure, and how often in the end
BATCH, FEWEST = 20, 2  # the mask: pictures in an update, and of a concept
ATTACKED, UNDERWAY = 4, 3  # the mask: one picture in so many is attacked, so many attacks for each
STEPS, LENGTH = 7, 0.35  # the mask: of each attack, how many steps, and how long they are, in radii
TRIED, CALM = 16, 2  # the mask: attacks on a concept for sure, and looks in a row that must be good before anything is looked at for sure
TOGETHER = 48  # the mask: attacks for sure in all, at least: masks are chosen by their rate, and the luckiest of few is chosen easily
_FULL = ("the base model's target, forward, back", 3)  # and the evaluations these are, of each step
_LAYERS = {"text-attention": (4, 0), "attention": (8, 3), "ff": (16, 9)}  # esd's, width x width a double and a single block
_TRAINED = 10  # numbers a trained weight takes in bfloat16: a copy, its gradient, and both again in float32 with Adam's two


def pictures(concepts: int) -> int:
    """The mask's batch, where a policy does not set it: half concepts, of each ``FEWEST`` pictures and more of what weighs most."""
    return max(BATCH, 3 * FEWEST * concepts)


def attempts(concepts: int) -> int:
    """How often the mask attacks each of so many concepts for sure."""
    return max(TRIED, math.ceil(TOGETHER / concepts))


def erasing(policy: Policy, geometry: Geometry) -> tuple[str, int]:
    """What the method does, and its evaluations of the model. A backward pass counts as one."""
    name, steps = policy.method.name, geometry.steps
    known = options("method", name)
    if name == "mce-2025":  # a target for each prompt; then in every epoch each of its own steps forward, forward again, twice back
        epochs, steps = _option(policy, "epochs"), _option(policy, "train_steps")
        targets = 2 * PAPERS_PROMPTS * len(policy.concepts)
        what = f"{targets} targets of the base model, then {epochs} epochs of as many pictures: forward, forward again, back twice"
        return what, targets * steps * (1 + 4 * epochs)
    if "updates" not in known:
        if "images" not in known:
            return "a closed form: nothing is drawn", 0
        images = 3 * _option(policy, "images") * len(policy.concepts)
        return f"{images} pictures for concepts, anchors and what must stay; nothing is trained", images * steps
    updates, batch = _option(policy, "updates"), _pictures(policy)
    what = f"{updates} updates of {batch} pictures: "
    if name == "esd":  # one step of each picture, after those that lead to it: half of the others
        return what + "to a noise level, the base model twice there, forward, back", updates * batch * (steps + 7) // 2
    recompute = _option(policy, "recompute")
    passes = (_FULL[1] + recompute) * updates * batch * steps
    what += _FULL[0] + (", forward again" if recompute else "")
    if name == "mask":  # it stops earlier where the limits are kept
        more, beside = _judging(policy, updates, batch)
        return f"at most {what}{more}", passes + beside * steps
    return what, passes


def _judging(policy: Policy, updates: int, batch: int) -> tuple[str, int]:
    """What the mask's training does beside its updates, and the rollouts that takes: looks at held-out pictures, and attacks."""
    concepts = len(policy.concepts)
    seen = sum(1 if c.category == "style" else 2 for c in policy.concepts)  # alone, and beside other things
    stay = sum(bool(c.retain) for c in policy.concepts) + 2 * bool(policy.retain)  # in general twice as many
    sure = updates // (CALM * EVERY) + TRIES  # looks so dear
    looks = updates // EVERY * (seen * LOOK + stay * KEPT) + sure * (seen + stay) * SURE
    if not float(str(_chosen(policy, "radius"))):
        return "; looks at held-out pictures", looks
    underway = UNDERWAY * (batch // ATTACKED)  # forward and back; at the beginning of each the base model, twice
    attacks = 2 * (STEPS + 1) * updates * underway // STEPS + 2 * (STEPS + 1) * sure * concepts * attempts(concepts)
    return f"; {underway} attacks under way: forward, back; looks at held-out pictures, and attacks on the best masks", looks + attacks


def kept(policy: Policy, geometry: Geometry) -> int:
    """Numbers beside the model's own weights that training keeps: for the gradient, and what is trained. 0 where nothing is."""
    if policy.method.name == "mce-2025":
        return geometry.activations
    if "updates" not in options("method", policy.method.name):
        return 0
    batch = _pictures(policy)
    if policy.method.name == "esd":
        double, single = _LAYERS[str(_chosen(policy, "sites"))]
        layers = (double * geometry.double + single * geometry.single) * geometry.width**2
        return batch * geometry.activations + _TRAINED * layers
    return gradient(geometry, batch, recompute=bool(_option(policy, "recompute")))


def _pictures(policy: Policy) -> int:
    return _option(policy, "batch") or pictures(len(policy.concepts))


def gradient(geometry: Geometry, batch: int, *, recompute: bool) -> int:
    """Numbers kept for the gradient of a batch's whole rollout; of one step at a time if steps are recomputed."""
    return batch * (1 if recompute else geometry.steps) * geometry.activations


def _chosen(policy: Policy, option: str) -> object:
    """An option as the policy sets it, else as the method has it."""
    return policy.method.options.get(option, options("method", policy.method.name)[option].default)


def _option(policy: Policy, option: str) -> int:
    return value("method", policy.method.name, option, policy.method.options, 0)
