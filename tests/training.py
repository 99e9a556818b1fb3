"""A training task for the tiny FLUX: two concepts, made by hand, and a detector that says what a test wants to hear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safeflux.models.flux1 import Flux1
from safeflux.policy import Choice, Concept, Limit, Limits
from safeflux.train.task import Pair, TrainingTask
from safeflux.types import Prompt

SWORD = Concept("sword", "object", ("sword", "blade"), "a shape", ("cross",), Choice("mini"), "sword")
NEON = Concept("neon", "style", ("neon",), "", ("sketch",), Choice("mini"), "neon")
LIMITS = Limits(Limit(0.2), Limit(0.4), Limit(0.8))


@dataclass
class Script:
    """Pictures of the tiny FLUX show nothing, so this plays the detector: for held-out prompts it says of the base model that all
    is there, and of a gated one what ``then`` says; of anchor pictures that no concept is in them."""

    model: Flux1
    then: Callable[[Prompt], bool] = lambda prompt: True
    base: Callable[[Prompt], bool] = lambda prompt: True

    def __call__(self, prompts: Sequence[Prompt], images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        assert len(prompts) == len(images)
        gated = any(m._forward_hooks or m._forward_pre_hooks for m in self.model.transformer.modules())
        said = self.then if gated else self.base
        return np.array(["held out" in p.text and said(p) for p in prompts])


def distances(model: Flux1, pairs: dict[str, tuple[Pair, ...]]) -> dict[str, float]:
    """As ``prepare`` measures them."""
    found = {}
    for name, some in pairs.items():
        noise = model.noise(list(range(8 * len(some))))
        texts = [[p.prompt.text for p in some] * 8, [p.anchor for p in some] * 8]
        drawn, anchors = (model.sample(noise, model.encode(t), steps=2) for t in texts)
        found[name] = float((drawn - anchors).square().mean())
    return found


def small_task(model: Flux1, *, seed: int = 3, shows: Script | None = None, limits: Limits = LIMITS) -> TrainingTask:
    pairs = {
        "sword": tuple(Pair(Prompt(f"a sword {at}", "sword", ("sword",), "direct"), f"a shape {at}") for at in ("at night", "in a meadow")),
        "neon": tuple(Pair(Prompt(f"a neon of a {x}", "neon", ("neon",), "direct"), "") for x in ("cat", "tree")),
    }
    retain = tuple(Prompt(f"a {x}", None, (x,), "neighbour" if x == "cross" else "general") for x in ("cross", "cat", "house", "key"))
    held_out = {name: (Prompt(f"held out {name}", name, (name,), "direct"),) for name in pairs}
    held_retain = (Prompt("held out cross", None, ("cross",), "neighbour"), Prompt("held out cat", None, ("cat",), "general"))
    every = [*retain, *held_retain, *(p for ps in held_out.values() for p in ps)]
    texts = sorted({t for ps in pairs.values() for p in ps for t in (p.prompt.text, p.anchor)} | {p.text for p in every})
    cond = model.encode(texts)
    return TrainingTask(
        (SWORD, NEON), pairs, retain, {t: cond[[i]] for i, t in enumerate(texts)}, distances(model, pairs), steps=2, seed=seed,
        held_out=held_out, held_retain=held_retain, limits=limits, shows=shows or Script(model),
    )  # fmt: skip
