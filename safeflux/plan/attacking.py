"""What attacks are called with and what they take, before anything is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from safeflux.options import options, presets, value
from safeflux.policy import Choice, Policy

SEEING = frozenset(
    {"noise", "unlearndiffatk", "p4d"}
)  # attacks that look at what they drew, so that it depends on who tells them what it shows
UNLIMITED = frozenset({"latent-inversion"})  # it gives back any picture, so that no limit would tell anything
PRESETS = {"quick": 60, "standard": 200, "full": 500}  # pictures per concept and attack


@dataclass(frozen=True)
class Effort:
    """Evaluations (one picture, one step; a backward pass counts as one): ``base`` and ``erased`` of the two models for one picture, at
    most; ``concept`` of the erased model once for each concept. ``gradient``: gradients go through a "step", a whole "rollout" or not."""

    base: int
    erased: int
    concept: int = 0
    gradient: Literal["", "step", "rollout"] = ""

    def of_erased(self, pictures: int) -> int:
        """For the ``pictures`` of one concept."""
        return pictures * self.erased + (self.concept if pictures else 0)


def images(policy: Policy, attack: Choice) -> int:
    """Pictures per concept: the attack's own option, else ``audit.images``, else what the preset has for the attack, or for all."""
    own = attack.options.get("images")
    if isinstance(own, int):
        return own
    few = presets("attack", attack.name).get(policy.audit.preset, {}).get("images")
    return policy.audit.images or (few if isinstance(few, int) else PRESETS[policy.audit.preset])


def chosen(policy: Policy, attack: Choice) -> Choice:
    """The attack with the budget of the policy's preset, where the policy does not set an option itself, and its number of pictures."""
    found = {**presets("attack", attack.name).get(policy.audit.preset, {}), **attack.options}
    if "images" in options("attack", attack.name):
        found["images"] = images(policy, attack)
    return Choice(attack.name, found)


def effort(attack: Choice, steps: int) -> Effort:
    """What ``attack`` takes with ``steps`` a picture. One that is not known here draws, or follows gradients if it has ``iterations``."""
    known = options("attack", attack.name)

    def number(name: str) -> int:
        return value("attack", attack.name, name, attack.options, 0)

    def several(name: str) -> tuple[object, ...]:
        found = attack.options.get(name, known[name].default)
        return tuple(found) if isinstance(found, list | tuple) else ()

    if attack.name in _EFFORTS:
        return _EFFORTS[attack.name](number, several, steps)
    if not {"iterations", "restarts"} <= known.keys():
        return Effort(steps, steps)
    balls = 1 + len(several("curve")) if "curve" in known else 1
    return Effort(steps, balls * steps * number("restarts") * (number("iterations") * (2 + number("recompute")) + 1), gradient="rollout")


_Formula = Callable[[Callable[[str], int], Callable[[str], tuple[object, ...]], int], Effort]
_EFFORTS: Mapping[str, _Formula] = {
    "noise": lambda number, several, steps: Effort(steps, steps * number("draws")),
    "p4d": lambda number, several, steps: _searching(number("iterations"), number("looks"), steps),
    "unlearndiffatk": lambda number, several, steps: _searching(number("iterations"), number("looks"), steps, number("guesses")),
    "concept-inversion": lambda number, several, steps: Effort(
        steps, 2 * steps, 2 * number("iterations") * number("batch"), gradient="step"
    ),
    "completion": lambda number, several, steps: Effort(steps, (steps - 1) * (1 + len(several("curve")))),
    "latent-inversion": lambda number, several, steps: _inversion(number("steps") or steps, number("rounds"), steps),
    "edit": lambda number, several, steps: _editing(steps * (1 + len(several("curve")) + 2 * len(several("flowedit"))), steps),
    "relearn": lambda number, several, steps: _tuning(len(several("pictures")), several("updates"), number("batch"), steps),
    "surgery": lambda number, several, steps: Effort(steps, steps * (3 + len(several("merges")))),
}


def _searching(iterations: int, looks: int, steps: int, guesses: int = 0) -> Effort:
    """Forward and back; the prompt alone is looked at first, for guesses again."""
    return Effort(steps, 2 * iterations + steps * (looks + 1 + (guesses + 1 if guesses else 0)), gradient="step")


def _inversion(taken: int, rounds: int, steps: int) -> Effort:
    """There with every round, back, and again what the base model inverted; as much of things that must stay as of the concept."""
    return Effort(2 * (steps + taken * rounds), 2 * taken * (rounds + 2))


def _editing(edits: int, steps: int) -> Effort:
    """The same by both models, and the base model draws what is edited."""
    return Effort(2 * steps + edits, edits)


def _tuning(lessons: int, updates: tuple[object, ...], batch: int, steps: int) -> Effort:
    most = max((update for update in updates if isinstance(update, int)), default=0)
    return Effort(steps, lessons * len(updates) * steps, 2 * lessons * most * batch, gradient="step")
