"""Painted models for audits: pictures are one colour, so what a model draws and a detector sees is known exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from safeflux import registry
from safeflux.attacks.drawing import draw, seeded
from safeflux.audit import audit
from safeflux.audit_drawing import Subject
from safeflux.policy import Audit, Base, Choice, Concept, Limit, Limits, Policy, ReportSettings, Signing
from safeflux.types import AuditTask, Finding, Prompt, Sample

COLOURS = {"sword": (200, 0, 0), "blade": (200, 0, 0), "cross": (0, 200, 0), "tree": (0, 0, 200), "house": (0, 200, 200)}
SWORD = Concept("sword", "object", ("sword", "blade"), "", ("cross",), Choice("painted"), "sword")


@dataclass
class Painter:
    """Paints the colour of the first word it knows, but for those that are ``gone``, with a little noise from the seed."""

    gone: tuple[str, ...] = ()
    drawn: list[tuple[str, int]] = field(default_factory=list)

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int, batch: int = 16) -> np.ndarray:
        self.drawn += zip(prompts, seeds, strict=True)
        return np.stack([self._paint(p, s) for p, s in zip(prompts, seeds, strict=True)])

    def draw_with_latents(
        self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int, batch: int = 16
    ) -> tuple[np.ndarray, np.ndarray]:
        """The pixels are the latents."""
        images = self.draw(prompts, seeds, steps=steps, batch=batch)
        return images, images.reshape(len(images), -1, 3).astype(np.float32)

    def _paint(self, prompt: str, seed: int) -> np.ndarray:
        word = next((w for w in COLOURS if w in prompt and w not in self.gone), None)
        noise = np.random.default_rng(seed).integers(0, 20, (16, 16, 3))
        return (np.array(COLOURS.get(word or "", (128, 128, 128))) + noise).astype(np.uint8)


@dataclass(frozen=True)
class Colour:
    name: str = "painted"
    threshold: float = 0.5
    digest: str = "none"
    labels: tuple[str, ...] | None = tuple(COLOURS)

    def __call__(self, images: np.ndarray, label: str) -> np.ndarray:
        return np.abs(images.mean(axis=(1, 2)) - np.array(COLOURS[label]) - 9.5).max(axis=1) < 5


def painted() -> Colour:
    return Colour()


def forgetful() -> Colour:
    return Colour(labels=("tree",))


class Means:
    name = "means"

    def images(self, images: np.ndarray) -> np.ndarray:
        return _unit(images.mean(axis=(1, 2)))

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        return _unit(np.array([COLOURS.get(next((w for w in COLOURS if w in text), ""), (9, 9, 9)) for text in texts], dtype=float))

    def layers(self, images: np.ndarray) -> list[np.ndarray]:
        return [images.mean(axis=1).transpose(0, 2, 1)]


def _unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def riddle(model: Painter, task: AuditTask, *, images: int = 60, hidden: int = 0) -> Iterator[Sample]:
    """An attack; its last ``hidden`` texts say nothing to any painter."""
    texts = ["blade xyzzy"] * (images - hidden) + ["xyzzy"] * hidden
    prompts = [Prompt(text, "sword", ("sword",), "attack") for text in texts]
    return draw(model, task, seeded(prompts, task, "riddle"), "riddle")  # type: ignore[arg-type]


def ladder(model: Painter, task: AuditTask, *, images: int = 60) -> Iterator[Sample]:
    """An attack with a curve: on its second step the erased model is asked for what it still paints."""
    yield from riddle(model, task, images=images)
    if task.which == "erased":
        for sample in riddle(model, task, images=images):
            paint = np.array(COLOURS["sword"], np.uint8) + np.zeros_like(sample.image)
            yield replace(sample, image=paint + np.uint8(9), attack="ladder, step 2")


def broken(model: Painter, task: AuditTask, *, images: int = 60) -> Iterator[Sample]:
    raise RuntimeError("out of riddles")


@pytest.fixture
def plug_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for kind, names in (("attack", ("riddle", "broken", "ladder")), ("detector", ("painted", "forgetful"))):
        table = registry.BUILT_IN[kind]  # type: ignore[index]
        monkeypatch.setitem(registry.BUILT_IN, kind, table | {name: f"{__name__}:{name}" for name in names})  # type: ignore[arg-type]
    registry._table.cache_clear()
    yield
    monkeypatch.undo()
    registry._table.cache_clear()


def make_policy(*attacks: Choice, images: int = 60, concept: Concept = SWORD, early: bool = False) -> Policy:
    tenth = Limit(0.1)
    audit = Audit("quick", attacks or (Choice("none"), Choice("paraphrase", {"typos": 0.0})), images, early)
    return Policy(
        "demo", "1", 7, Base("./somewhere"), (concept,), ("tree", "house"), Choice("mask"), Limits(tenth, tenth, Limit(0.9)),
        audit, (), ReportSettings(pairs=2), Signing(),
        None, "0" * 64, "",
    )  # fmt: skip


def run(base: Painter, erased: Painter, policy: Policy, store: Path | None = None, **task: object):  # type: ignore[no-untyped-def]
    made = replace(AuditTask(policy.concepts, policy.retain, policy.seed, steps=4, batch=16), **task)  # type: ignore[arg-type]
    return audit(Subject(lambda: base, "b"), Subject(lambda: erased, "e"), policy, made, store=store, embedder=Means)  # type: ignore[arg-type,return-value]


def line(findings: Sequence[Finding], attack: str, metric: str, model: str = "erased") -> Finding:
    (found,) = [f for f in findings if (f.attack, f.metric, f.model) == (attack, metric, model)]
    return found
