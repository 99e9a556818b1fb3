"""Concept inversion: a word for the concept is learned anew from pictures of it.

Pham et al., *Circumventing Concept Erasure Methods For Text-to-Image Generative Models*, ICLR 2024, arXiv 2308.01508. Embeddings that
stand where the name stood are learned on the erased model, with its weights as they are (white box), and, as M-ErasureBench has it, on the
base model and replayed on the erased one (black box). Where this departs from the authors' code: FLUX reads a text twice, so a T5
embedding is learned together with what the name adds to CLIP's pooled vector; noise levels are those the sampler visits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from safeflux.attacks.drawing import batches, seeded
from safeflux.attacks.inversion import Lesson, learn, spoken
from safeflux.attacks.taught import direct, named, once, way
from safeflux.errors import OptionError, StageError
from safeflux.policy import Concept
from safeflux.types import AuditTask, Sample

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1

PRESETS = {"quick": {"images": 40, "iterations": 150}, "full": {"iterations": 5000, "rate": 0.005}}
_NAME = "concept-inversion"


def concept_inversion(
    model: Flux1,
    task: AuditTask,
    *,
    images: int = 60,
    pictures: int = 25,
    tokens: int = 1,
    iterations: int = 300,
    rate: float = 0.03,
    learned_on: Literal["erased", "base", "both"] = "both",
    batch: int = 16,
) -> Iterator[Sample]:
    """``images`` direct prompts a concept, with a learned embedding of ``tokens`` in the place of its name.

    It is learned from ``pictures`` that the base model draws for other sentences. With ``learned_on`` "both" that of the erased model
    is the attack, and that of the base model is measured beside it. An iteration is one step of denoising, forward and back, of ``batch``
    pictures; the authors take 5,000. Raises OptionError for numbers that make no sense, StageError when the base model has not been here.
    """
    if min(images, pictures, tokens, iterations, batch) < 1 or rate <= 0:
        raise OptionError(
            f"{_NAME}: images {images}, pictures {pictures}, tokens {tokens}, iterations {iterations}, rate {rate:g}, batch {batch}; "
            "wanted numbers of at least 1 and a rate above 0"
        )
    lesson = Lesson(tokens, iterations, rate, batch)
    words = {c.name: _words(model, task, c, pictures, lesson, learned_on) for c in task.concepts}
    for part in batches(task, direct(task, images), batch, _NAME):
        if task.which == "base":
            for (prompt, seed), image in zip(part, model.decode(way(model, task, part, _NAME)[:, -1]), strict=True):
                yield Sample(image, prompt, seed, _NAME)
            continue
        noise = model.noise([seed for _, seed in part])
        for point in dict.fromkeys(point for learned in words.values() for point in learned):
            for c in task.concepts:
                at = [i for i, (prompt, _) in enumerate(part) if prompt.concept == c.name]
                if at:
                    cond = spoken(model, c, [part[i][0].text for i in at], dict(words[c.name][point]))
                    drawn = model.decode(model.sample(noise[at], cond, steps=task.steps))
                    yield from (Sample(image, *part[i], point) for i, image in zip(at, drawn, strict=True))


def _words(
    model: Flux1, task: AuditTask, concept: Concept, pictures: int, lesson: Lesson, learned_on: str
) -> Mapping[str, Mapping[str, Tensor]]:
    """What was learned of the concept, by the name of the attack or of the point beside it. The base model learns when it is its turn."""
    shown = seeded(named(task, concept, pictures, "train"), task, f"pictures/{concept.name}")
    latents = torch.cat([way(model, task, shown[i : i + lesson.batch], _NAME)[:, -1] for i in range(0, len(shown), lesson.batch)])

    def tell(done: int) -> None:
        if task.progress:
            task.progress(f"{_NAME}, a word for {concept.name}", done, lesson.iterations)

    settings = [concept.name, concept.targets[0], concept.category, pictures, vars(lesson)]
    study = partial(learn, model, task, concept, latents, lesson, tell)
    if task.which == "base":
        return {} if learned_on == "erased" else {_NAME: once(model, task, _NAME, settings, study)}
    found = {_NAME: once(model, task, _NAME, settings, study)} if learned_on != "base" else {}
    if learned_on != "erased":
        replayed = once(model, task, _NAME, settings, _missing, by="base")
        found["concept-inversion, learned on the base model" if found else _NAME] = replayed
    return found


def _missing() -> Mapping[str, Tensor]:
    raise StageError(f"{_NAME}: what the base model learned is not kept; attack the base model first, with the same task and options")
