"""A concept learned as embeddings: textual inversion (Gal et al., ICLR 2023, arXiv 2208.01618) for the two texts a FLUX reads."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safeflux.attacks.drawing import seed_of
from safeflux.attacks.soft import encode, slotted, vocabularies
from safeflux.attacks.taught import named
from safeflux.policy import Concept
from safeflux.types import AuditTask, TextCond

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1


@dataclass(frozen=True)
class Lesson:
    """How to learn: ``iterations`` of Adam with ``rate`` (in units of what is learned) on ``batch`` pictures each; ``tokens`` to learn."""

    tokens: int
    iterations: int
    rate: float
    batch: int


def learn(
    model: Flux1, task: AuditTask, concept: Concept, pictures: Tensor, lesson: Lesson, tell: Callable[[int], None]
) -> dict[str, Tensor]:
    """Learn ``concept`` from the latents of ``pictures`` [N, tokens, channels]: embeddings "t5" [tokens, D] that stand where its name
    stood, and "pooled" [P], what its name adds to the pooled vector.

    What is minimised is what the model was trained on, its error in telling noise from picture at the sampler's noise levels, in sentences
    that name the concept. ``tell(iterations done)``.
    """
    table = vocabularies(model)[1].table
    around = frames(task, concept, 64)
    spread = float(table.std())
    t5 = (table.mean(0) / spread).repeat(lesson.tokens, 1).requires_grad_()
    plain = pooled_of(model, around)
    scale = float(plain.float().std())
    pooled = torch.zeros(plain.shape[1], device=plain.device, requires_grad=True)
    adam = torch.optim.Adam([t5, pooled], lr=lesson.rate)
    sigmas, prompts = model.sigmas(task.steps)[:-1], slotted(model, around, lesson.tokens)
    for iteration in range(lesson.iterations):
        drawn = random.Random(f"{task.seed}/{concept.name}/{iteration}")
        which = [drawn.randrange(len(pictures)) for _ in range(lesson.batch)]
        rows = [drawn.randrange(len(around)) for _ in which]
        sigma, x0 = sigmas[drawn.randrange(len(sigmas))], pictures[which]
        e = model.noise([seed_of(f"{task.seed}/{concept.name}/{iteration}/{i}") for i in range(len(which))])
        put = encode(model, prompts[rows], None, (t5 * spread).expand(len(rows), -1, -1))
        cond = TextCond(put.sequence, (plain[rows].float() + pooled * scale).to(model.dtype))
        loss = (model.velocity((1 - sigma) * x0 + sigma * e, sigma, cond) - (e - x0)).float().square().mean()
        t5.grad, pooled.grad = torch.autograd.grad(loss, [t5, pooled])
        adam.step()
        tell(iteration + 1)
    return {"t5": (t5 * spread).detach(), "pooled": (pooled * scale).detach()}


@torch.no_grad()
def spoken(model: Flux1, concept: Concept, texts: Sequence[str], learned: dict[str, Tensor]) -> TextCond:
    """Embeddings of ``texts``, which name the concept, with what was ``learned`` in the name's place."""
    around = [split(text, concept) for text in texts]
    tokens = learned["t5"]
    put = encode(model, slotted(model, around, len(tokens)), None, tokens.expand(len(around), -1, -1))
    return TextCond(put.sequence, (pooled_of(model, around).float() + learned["pooled"]).to(model.dtype))


def frames(task: AuditTask, concept: Concept, n: int) -> list[tuple[str, str]]:
    """Sentences of the training split around the concept's name: what stands before it, and after."""
    texts = dict.fromkeys(prompt.text for prompt in named(task, concept, n, "train"))
    return [split(text, concept) for text in itertools.islice(texts, n)]


def split(text: str, concept: Concept) -> tuple[str, str]:
    """What stands before the concept's first name in ``text``, and after."""
    before, _, after = text.partition(concept.targets[0])
    return before.strip(), after.strip()


@torch.no_grad()
def pooled_of(model: Flux1, around: Sequence[tuple[str, str]]) -> Tensor:
    """Pooled vectors [B, P] of the sentences without the concept's name."""
    return model.encode([f"{before} {after}".strip() for before, after in around]).pooled
