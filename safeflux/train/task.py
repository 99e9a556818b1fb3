"""What a method trains on, and what it may judge itself by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from safeflux.policy import Concept, Limit, Limits
from safeflux.types import Prompt, Shows, TextCond

_STRICT = Limits(Limit(0.1), Limit(0.3), Limit(0.9))


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
    ``held_out`` (by concept name) and ``held_retain``: prompts that nothing is trained on. ``limits``: what the release has to
    keep to. ``shows``: tells which pictures show what their prompts expect; None where nobody can tell. ``shut``: units that an
    earlier release erased, by site: True stays closed. ``begun``: those that the releases to be merged erased: True begins closed.
    """

    concepts: tuple[Concept, ...]
    pairs: Mapping[str, tuple[Pair, ...]]
    retain: tuple[Prompt, ...]
    cond: Mapping[str, TextCond]
    distance: Mapping[str, float]
    steps: int
    seed: int
    held_out: Mapping[str, tuple[Prompt, ...]] = field(default_factory=dict)
    held_retain: tuple[Prompt, ...] = ()
    limits: Limits = _STRICT
    shows: Shows | None = None
    shut: Mapping[str, Tensor] = field(default_factory=dict)
    begun: Mapping[str, Tensor] = field(default_factory=dict)

    def embed(self, texts: Sequence[str]) -> TextCond:
        """Cached embeddings of ``texts``, in order: sequence [B, T, D], pooled [B, P]."""
        return TextCond.cat([self.cond[text] for text in texts])
