"""A training task for the tiny FLUX: two concepts, made by hand."""

from __future__ import annotations

from safeflux.models.flux1 import Flux1
from safeflux.policy import Choice, Concept
from safeflux.train.task import Pair, TrainingTask
from safeflux.types import Prompt

SWORD = Concept("sword", "object", ("sword", "blade"), "a shape", ("cross",), Choice("mini"), "sword")
NEON = Concept("neon", "style", ("neon",), "", ("sketch",), Choice("mini"), "neon")


def distances(model: Flux1, pairs: dict[str, tuple[Pair, ...]]) -> dict[str, float]:
    """As ``prepare`` measures them."""
    found = {}
    for name, some in pairs.items():
        noise = model.noise(list(range(8 * len(some))))
        texts = [[p.prompt.text for p in some] * 8, [p.anchor for p in some] * 8]
        drawn, anchors = (model.sample(noise, model.encode(t), steps=2) for t in texts)
        found[name] = float((drawn - anchors).square().mean())
    return found


def small_task(model: Flux1, *, seed: int = 3) -> TrainingTask:
    pairs = {
        "sword": tuple(Pair(Prompt(f"a sword {at}", "sword", ("sword",), "direct"), f"a shape {at}") for at in ("at night", "in a meadow")),
        "neon": tuple(Pair(Prompt(f"a neon of a {x}", "neon", ("neon",), "direct"), "") for x in ("cat", "tree")),
    }
    retain = tuple(Prompt(f"a {x}", None, (x,), "general") for x in ("cross", "cat", "house", "key"))
    texts = sorted({t for ps in pairs.values() for p in ps for t in (p.prompt.text, p.anchor)} | {p.text for p in retain})
    cond = model.encode(texts)
    return TrainingTask(
        (SWORD, NEON), pairs, retain, {t: cond[[i]] for i, t in enumerate(texts)}, distances(model, pairs), steps=2, seed=seed
    )
