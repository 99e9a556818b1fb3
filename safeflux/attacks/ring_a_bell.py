"""Ring-A-Bell (Tsai et al., ICLR 2024, arXiv 2310.10012): texts that mean the concept to the text encoders.

The difference that naming the concept makes to a text's embedding, averaged over pairs of sentences, is its concept
vector. A genetic search looks for a text whose embedding is that of a harmless sentence plus several times this vector.
Only the text encoders are asked; the generator never is. Where this departs from the authors' code:

- FLUX reads two embeddings: CLIP's pooled vector and T5's sequence. Both are matched (``against``), the sequence by its
  mean over all positions, padding too, since FLUX attends to it.
- A row of tokens is judged by the text it decodes to, tokenised anew: what is scored is what a user can type.
- The names of the concept are forbidden, or the search would find the direct prompt (``ban=False`` allows them, as they do).
- The best rows survive unchanged.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from safeflux.attacks.drawing import Seeded, draw
from safeflux.attacks.found_texts import Text, find, shots
from safeflux.attacks.genetic import Budget, search
from safeflux.attacks.meaning import Against, Direction, contrast, direction, distance, embed
from safeflux.attacks.vocabulary import banned_words, genes, says, texts_of
from safeflux.errors import StageError
from safeflux.types import AuditTask, Sample

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1
    from safeflux.policy import Concept


PRESETS = {"quick": {"texts": 8, "population": 80, "generations": 60}, "full": {"generations": 3000}}


@dataclass(frozen=True)
class Aim:
    """What to search for, and how long. ``coefficient`` times the concept vector of ``pairs`` sentence pairs is the way to go."""

    against: Against
    coefficient: float
    pairs: int
    ban: bool
    budget: Budget


def ring_a_bell(
    model: Flux1,
    task: AuditTask,
    *,
    images: int = 60,
    texts: int = 12,
    against: Literal["clip", "t5", "both"] = "both",
    coefficient: float = 3.0,
    pairs: int = 30,
    length: int = 16,
    population: int = 200,
    generations: int = 300,
    mutation: float = 0.25,
    crossover: float = 0.5,
    ban: bool = True,
) -> Iterator[Sample]:
    """``images`` pictures a concept, from ``texts`` found texts in turn, each picture from noise of its own.

    The authors search 3,000 generations; the other numbers are theirs. ``length`` is in tokens, and cut to what the encoders read.
    What is found depends on the text encoders, the options and the task's seed alone, and is kept in ``task.cache``, so that base
    and erased model are given the same texts for one search. Raises StageError when nothing allowed is found.
    """
    aim = Aim(against, coefficient, pairs, ban, Budget(population, generations, mutation, crossover, length))
    drawn: list[Seeded] = []
    for concept in task.concepts:
        drawn += shots(task, concept, "ring-a-bell", _texts(model, task, concept, aim, min(texts, images)), images)
    return draw(model, task, drawn, "ring-a-bell")


def _texts(model: Flux1, task: AuditTask, concept: Concept, aim: Aim, n: int) -> list[Text]:
    """``n`` texts for ``concept``."""
    rng = random.Random(f"{task.seed}/{concept.name}/ring-a-bell")
    starts = [without for _, without in contrast(concept, (), n, rng)]  # "something": another noun would be part of the target
    way = direction(model, contrast(concept, task.retain, aim.pairs, rng), aim.against)
    vocabulary = genes(_tokenizer(model, aim), concept.targets if aim.ban else ())
    return find(
        model, task, concept, "ring-a-bell", asdict(aim), n,
        lambda i: _hunt(model, task, concept, aim, starts[i % len(starts)], way, vocabulary, (i, n)),
    )  # fmt: skip


def _hunt(
    model: Flux1,
    task: AuditTask,
    concept: Concept,
    aim: Aim,
    start: str,
    way: Direction,
    vocabulary: NDArray[np.int64],
    place: tuple[int, int],
) -> Text:
    """Search for one text whose meaning is that of ``start`` moved along ``way``; ``place``: which of how many."""
    target = [s + aim.coefficient * v for s, v in zip(embed(model, [start], aim.against), way.vectors, strict=True)]
    forbidden = banned_words(concept.targets) if aim.ban else frozenset()
    tokenizer, known = _tokenizer(model, aim), dict[str, float]()

    def loss(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        texts = texts_of(tokenizer, rows)
        new = [text for text in dict.fromkeys(texts) if text not in known and not says(text, forbidden)]
        if new:
            known.update(zip(new, distance(embed(model, new, aim.against), target, way.spreads).tolist(), strict=True))
        return np.array([known.get(text, np.inf) for text in texts])

    def tick(generation: int) -> None:
        if task.progress:
            total = aim.budget.generations
            task.progress(f"ring-a-bell, texts for {concept.name}", place[0] * total + generation, place[1] * total)

    rng = np.random.default_rng([task.seed, place[0], int.from_bytes(hashlib.sha256(concept.name.encode()).digest()[:4])])
    length = min(aim.budget.length, int(model.tokenizer.model_max_length) - 2, model.max_length - 2)
    best = search(vocabulary, loss, Budget(**asdict(aim.budget) | {"length": length}), rng, tick)
    if not np.isfinite(best.losses[-1]):
        raise StageError(f"ring-a-bell found no text for {concept.name} that avoids its names; give it more population or generations")
    return Text(texts_of(tokenizer, best.row[None])[0], best.losses[-1], best.losses[0], len(known))


def _tokenizer(model: Flux1, aim: Aim) -> Any:
    """Whose tokens the genes are: T5's where T5 alone is aimed at, else CLIP's, as the authors have it."""
    return model.tokenizer_2 if aim.against == "t5" else model.tokenizer
