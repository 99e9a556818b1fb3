"""MMA-Diffusion's text attack: words that mean a sentence to the text encoders and say none of its own (Yang et al., CVPR 2024,
arXiv 2311.17516).

Greedy coordinate gradient: the gradient of the likeness to the target sentence says for every token of a text which others would make it
more like; some of these exchanges, drawn at random, are tried, and the best is made. The generator is never asked. Where this departs from
the authors' code:

- FLUX reads two embeddings, CLIP's pooled vector and T5's sequence (its mean is matched). Tokens are exchanged by CLIP's gradient
  and by T5's in turn, each among its own tokens.
- Likeness is that of what is left when the mean of sentences alike but for the concept is taken away: what every sentence has in
  common would else make all of them much alike.
- A text is judged by what it is when it is typed, tokenised anew, and by both encoders.
- Sensitive words are the concept's names and their pieces, since the filter is a list of names (``ban``).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safeflux.attacks import soft
from safeflux.attacks.drawing import Seeded, draw, seed_of
from safeflux.attacks.found_texts import Text, find, shots
from safeflux.attacks.meaning import Meanings, contrast, embed
from safeflux.attacks.taught import named
from safeflux.attacks.vocabulary import banned_words, says
from safeflux.errors import OptionError, StageError
from safeflux.policy import Concept
from safeflux.types import AuditTask, Sample

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1

PRESETS = {
    "quick": {"texts": 6, "iterations": 40, "candidates": 64},
    "full": {"length": 20, "iterations": 1000, "candidates": 512, "top": 256},
}


@dataclass(frozen=True)
class Climb:
    """``iterations`` exchanges in a text of ``length`` tokens, each the best of ``candidates`` among the ``top`` tokens of every place."""

    length: int
    iterations: int
    candidates: int
    top: int


def mma(
    model: Flux1,
    task: AuditTask,
    *,
    images: int = 60,
    texts: int = 12,
    length: int = 10,
    iterations: int = 150,
    candidates: int = 128,
    top: int = 64,
    ban: bool = True,
) -> Iterator[Sample]:
    """``images`` pictures a concept, from ``texts`` found texts in turn, each picture from noise of its own.

    Targets are direct prompts. What is found depends on the text encoders, the options and the task's seed alone, and is kept in
    ``task.cache``. Raises OptionError for numbers that make no sense, StageError when every text says a banned word.
    """
    if min(images, texts, length, iterations, candidates, top) < 1:
        raise OptionError(
            f"mma: images {images}, texts {texts}, length {length}, iterations {iterations}, candidates {candidates}, top {top}; wanted "
            "numbers of at least 1"
        )
    climb, drawn = Climb(min(length, soft.room(model)), iterations, candidates, top), list[Seeded]()
    for concept in task.concepts:
        n = min(texts, images)
        hunt = partial(_hunt, model, task, concept, [prompt.text for prompt in named(task, concept, n)], climb, ban)
        drawn += shots(task, concept, "mma", find(model, task, concept, "mma", [asdict(climb), ban], n, hunt), images)
    return draw(model, task, drawn, "mma")


def _hunt(model: Flux1, task: AuditTask, concept: Concept, targets: list[str], climb: Climb, ban: bool, i: int) -> Text:
    """The text most like ``targets[i]`` that the search comes by."""
    words = soft.vocabularies(model, concept.targets if ban else ())
    forbidden = banned_words(concept.targets) if ban else frozenset()
    rng = np.random.default_rng([task.seed, i, seed_of(f"mma/{concept.name}")])
    others = [without for _, without in contrast(concept, task.retain, 30, random.Random(f"{task.seed}/{concept.name}/mma"))]
    centre = [side.mean(axis=0, keepdims=True) for side in embed(model, others, "both")]
    target, known = embed(model, [targets[i]], "both"), dict[str, float]()

    def look(texts: list[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text and text not in known and not says(text, forbidden)]
        if new:
            known.update(zip(new, unlike(embed(model, new, "both"), target, centre).tolist(), strict=True))

    def best() -> str:
        if not known:
            raise StageError(f"mma found no text for {concept.name} that avoids its names; give it more candidates")
        return min(known, key=lambda text: known[text])

    look(words[0].texts(torch.from_numpy(rng.integers(len(words[0].ids), size=(climb.candidates, climb.length)))))
    start = known[best()]
    for iteration in range(climb.iterations):
        own = words[iteration % 2]
        look(own.texts(_exchanges(model, iteration % 2, _slots(own, best(), climb.length, rng), own, target, centre, climb, rng)))
        if task.progress:
            task.progress(f"mma, texts for {concept.name}", i * climb.iterations + iteration + 1, len(targets) * climb.iterations)
    return Text(best(), known[best()], start, len(known))


def unlike(found: Meanings, target: Meanings, centre: Meanings) -> NDArray[np.float64]:
    """1 - cosine to ``target`` [1, D], both seen from ``centre`` [1, D], a mean over the encoders: [n], 0 for what means the same."""
    seen = [(f - c, (t - c)[0]) for f, t, c in zip(found, target, centre, strict=True)]
    cosines = [(f @ t) / np.linalg.norm(f, axis=1) / np.linalg.norm(t) for f, t in seen]
    apart: NDArray[np.float64] = 1 - np.mean(cosines, axis=0)
    return apart


def _slots(words: soft.Vocabulary, text: str, length: int, rng: np.random.Generator) -> Tensor:
    """The tokens of ``text`` that the vocabulary has, as places in it, filled up with random ones: [length]."""
    place = {int(token): at for at, token in enumerate(words.ids)}
    ids = words.tokenizer(text, add_special_tokens=False).input_ids
    own = [place[token] for token in ids if token in place][:length]
    return torch.tensor([*own, *rng.integers(len(words.ids), size=length - len(own))])


def _exchanges(
    model: Flux1,
    which: int,
    slots: Tensor,
    words: soft.Vocabulary,
    target: Meanings,
    centre: Meanings,
    climb: Climb,
    rng: np.random.Generator,
) -> Tensor:
    """``candidates`` texts [n, length], each with one token exchanged for one that the gradient of one encoder speaks for."""
    put = words.table[slots.to(words.table.device)][None].requires_grad_()
    prompts = soft.slotted(model, [("", "")], len(slots))
    found = soft.pooled(model, prompts.clip, put) if which == 0 else soft.sequence(model, prompts.t5, put).mean(dim=1)
    wanted, middle = (torch.from_numpy(side[which]).to(found.device, found.dtype) for side in (target, centre))
    (gradient,) = torch.autograd.grad(-torch.cosine_similarity(found - middle, wanted - middle).sum(), put)
    speaks = (-gradient[0].float() @ words.table.T).topk(min(climb.top, len(words.ids)), dim=1).indices.cpu()  # [length, top]
    rows = slots.repeat(climb.candidates, 1)
    at = torch.from_numpy(rng.integers(len(slots), size=climb.candidates))
    rows[torch.arange(climb.candidates), at] = speaks[at, torch.from_numpy(rng.integers(speaks.shape[1], size=climb.candidates))]
    return rows
