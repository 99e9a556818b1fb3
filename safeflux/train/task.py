"""What a method trains on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from safeflux.policy import Concept
from safeflux.types import Prompt, TextCond


@dataclass(frozen=True)
class Pair:
    """A prompt that names a concept, and what shall be drawn in its place from the same noise."""

    prompt: Prompt
    anchor: str


@dataclass(frozen=True)
class TrainingTask:
    """A plan made ready for a method: prompts that survived the filter, their text embeddings, noise.

    ``pairs`` by concept name; ``retain``: prompts whose pictures must not change; ``cond``: one-row embeddings by text;
    ``distance`` by concept name: mean squared difference of the base model's final latents between prompts and their anchors.
    """

    concepts: tuple[Concept, ...]
    pairs: Mapping[str, tuple[Pair, ...]]
    retain: tuple[Prompt, ...]
    cond: Mapping[str, TextCond]
    distance: Mapping[str, float]
    steps: int
    seed: int

    def embed(self, texts: Sequence[str]) -> TextCond:
        """Cached embeddings of ``texts``, in order: sequence [B, T, D], pooled [B, P]."""
        rows = [self.cond[text] for text in texts]
        return TextCond(torch.cat([r.sequence for r in rows]), torch.cat([r.pooled for r in rows]))
