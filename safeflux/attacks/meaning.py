"""What the text encoders of a FLUX make of a text, and the direction in which naming a concept moves it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from safeflux import prompts

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1
    from safeflux.policy import Concept

Against = Literal["clip", "t5", "both"]
Meanings = list[NDArray[np.float64]]  # one array [n, D] an encoder

_BATCH = 64  # texts at a time


@dataclass(frozen=True)
class Direction:
    """Of each encoder: the concept ``vectors`` [1, D], and the ``spreads``, how far (squared) a sentence lies from its kind's mean."""

    vectors: Meanings
    spreads: list[float]


@torch.no_grad()
def embed(model: Flux1, texts: Sequence[str], against: Against) -> Meanings:
    """CLIP's pooled vector and the mean over all positions of T5's sequence, of each text; only what ``against`` asks for.

    Tokenised as FluxPipeline does it: padded and cut to the model's lengths, without attention masks.
    """
    parts: list[list[NDArray[np.float64]]] = []
    for start in range(0, len(texts), _BATCH):
        some = list(texts[start : start + _BATCH])
        found = []
        if against != "t5":
            found.append(model.text_encoder(_ids(model, model.tokenizer, some, model.tokenizer.model_max_length)).pooler_output)
        if against != "clip":
            found.append(model.text_encoder_2(_ids(model, model.tokenizer_2, some, model.max_length))[0].mean(dim=1))
        parts.append([vectors.double().cpu().numpy() for vectors in found])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _ids(model: Flux1, tokenizer: Any, texts: list[str], length: int) -> torch.Tensor:
    ids: torch.Tensor = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
    return ids.to(model.device)


def contrast(concept: Concept, others: Sequence[str], n: int, rng: random.Random) -> list[tuple[str, str]]:
    """``n`` pairs of sentences alike but for the concept: (with it, without).

    Without it stands the concept's anchor or, where that is the empty prompt, one of ``others`` in turn; of a style,
    the thing alone. All names of the concept are used in turn.
    """
    words = itertools.cycle(concept.targets)
    instead = itertools.cycle((concept.anchor,) if concept.anchor else tuple(others) or ("something",))
    if concept.category == "style":
        frames = list(itertools.product(prompts.STYLES, prompts.NOUNS))
        chosen = rng.sample(frames, min(n, len(frames)))
        things = [prompts.article(noun) for _, noun in chosen]
        return [(t.format(s=next(words), x=x), f"a picture of {x}") for (t, _), x in zip(chosen, things, strict=True)]
    bare = concept.category in ("character", "identity")
    pairs = []
    scenes = list(itertools.product(prompts.OPENINGS, prompts.SCENES))
    for opening, scene in rng.sample(scenes, min(n, len(scenes))):
        word, other = next(words), next(instead)
        named = word if bare else prompts.article(word)
        plain = other if other == concept.anchor or other == "something" else prompts.article(other)
        pairs.append((opening.format(f"{named} {scene}".strip()), opening.format(f"{plain} {scene}".strip())))
    return pairs


def direction(model: Flux1, pairs: Sequence[tuple[str, str]], against: Against) -> Direction:
    """The mean difference over ``pairs``, and the spread within their two sides. Raises ValueError where all sentences mean the same."""
    present = embed(model, [with_it for with_it, _ in pairs], against)
    absent = embed(model, [without for _, without in pairs], against)
    vectors = [(a - b).mean(axis=0, keepdims=True) for a, b in zip(present, absent, strict=True)]
    spreads = [float(np.mean([side.var(axis=0).sum() for side in sides])) for sides in zip(present, absent, strict=True)]
    if min(spreads) <= 0:
        raise ValueError("a text encoder makes the same of every sentence; there is nothing to search by")
    return Direction(vectors, spreads)


def distance(found: Meanings, target: Meanings, spreads: Sequence[float]) -> NDArray[np.float64]:
    """Squared distance [n] to ``target`` [1, D] in units of each encoder's spread, averaged over the encoders.

    By its spread, and not by the length of its concept vector: an encoder that hardly tells the concept must not drown one
    that does.
    """
    apart = [((f - t) ** 2).sum(axis=1) / spread for f, t, spread in zip(found, target, spreads, strict=True)]
    mean: NDArray[np.float64] = np.mean(apart, axis=0)
    return mean
