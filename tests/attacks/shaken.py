"""A tiny FLUX and an "erased" one, the same with its weights shaken, and a task for attacks on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from safeflux import registry
from safeflux.models.flux1 import Flux1
from safeflux.policy import Choice, Concept
from safeflux.types import AuditTask, Prompt, Sample

SWORD = Concept("sword", "object", ("sword", "blade"), "", ("cross",), Choice("seer"), "sword")
NEON = Concept("neon", "style", ("neon",), "", (), Choice("seer"), "neon")
STEPS = 2


def shaken(directory: Path, by: float = 0.3) -> Flux1:
    model, shake = Flux1.load(directory), torch.Generator().manual_seed(5)
    for weight in model.transformer.parameters():
        weight.add_(by * weight.std() * torch.randn(weight.shape, generator=shake) if weight.numel() > 1 else 0)
    return model


def nobody(prompts: Sequence[Prompt], images: np.ndarray) -> np.ndarray:
    """Sees nothing anywhere."""
    return np.zeros(len(images), bool)


def task(cache: Path | None, which: str = "base", *concepts: Concept, seed: int = 3, **more: object) -> AuditTask:
    given = {"digests": {"base": "b", "erased": "e"}, "shows": nobody} | more
    return AuditTask(concepts or (SWORD,), ("tree", "house"), seed, STEPS, batch=8, cache=cache, which=which, **given)  # type: ignore[arg-type]


def attack(name: str, model: Flux1, task: AuditTask, **options: object) -> list[Sample]:
    return list(registry.get("attack", name)(model, task, **options))


def pictures(samples: Iterable[Sample]) -> np.ndarray:
    return np.stack([s.image for s in samples])


def named(samples: Iterable[Sample], name: str) -> list[Sample]:
    return [s for s in samples if s.attack == name]


def same(a: Sequence[Sample], b: Sequence[Sample]) -> bool:
    alike = all((x.prompt, x.seed, x.attack) == (y.prompt, y.seed, y.attack) for x, y in zip(a, b, strict=True))
    return alike and np.array_equal(pictures(a), pictures(b))


def gap(a: Sequence[Sample] | np.ndarray, b: Sequence[Sample] | np.ndarray) -> float:
    """Mean absolute difference of pictures, 0..255."""
    one, other = (x if isinstance(x, np.ndarray) else pictures(x) for x in (a, b))
    return float(np.abs(one.astype(int) - other).mean())
