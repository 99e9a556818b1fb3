"""The types that cross a boundary. Frozen, documented, and importable without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from safeflux.policy import Concept

Status = Literal["passed", "failed", "unchecked", "control", "measured"]  # "measured": a number no limit is set for
Which = Literal["base", "erased"]
JOURNAL = "journal.json"  # what a method may leave in its scratch directory: how its training went, for the report
KEPT = "kept_neurons.safetensors"  # which of the base's neurons are in which slot, by site, where a release says so
Progress = Callable[[str, int, int], None]  # what is being done, how many steps of it are done, how many there are; called after each step


@dataclass(frozen=True)
class Prompt:
    """A sentence and what the picture drawn from it is expected to show.

    ``concept`` is the concept it is about (None for a retained prompt); ``expects`` the detector labels a good picture
    shows; ``kind`` is "direct", "paraphrase", "neighbour", "general" or "attack"; ``rest`` what it asks for beside the concept.
    """

    text: str
    concept: str | None
    expects: tuple[str, ...]
    kind: str
    rest: str = ""

    def is_near(self, concept: Concept) -> bool:
        """Whether it asks for a neighbour of ``concept``."""
        return self.kind == "neighbour" and set(self.expects) <= set(concept.retain)


class Shows(Protocol):
    """Whether pictures show everything that their prompts expect."""

    def __call__(self, prompts: Sequence[Prompt], images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """N prompts and their pictures [N, H, W, 3] to [N]."""
        ...


@dataclass(frozen=True)
class TextCond:
    """Text embeddings of a batch: ``sequence`` [B, T, D_t5] and ``pooled`` [B, D_clip]."""

    sequence: Tensor
    pooled: Tensor

    def __len__(self) -> int:
        return int(self.pooled.shape[0])

    def __getitem__(self, index: slice | list[int] | Tensor) -> TextCond:
        return TextCond(self.sequence[index], self.pooled[index])

    @staticmethod
    def cat(parts: Sequence[TextCond]) -> TextCond:
        """One batch after the other."""
        import torch

        return TextCond(torch.cat([p.sequence for p in parts]), torch.cat([p.pooled for p in parts]))


@dataclass(frozen=True)
class Sample:
    """One picture: ``image`` [H, W, 3] uint8, the prompt (or attack text) it came from, its noise seed, its attack.

    ``attack`` is the attack's name or, for pictures that no limit is for, that and a point of its curve: "embedding-pgd, radius 0.05".
    ``latents`` [tokens, channels]: what the picture of a general prompt was decoded from; None for all others.
    """

    image: NDArray[np.uint8]
    prompt: Prompt
    seed: int
    attack: str
    latents: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class AuditTask:
    """What attacks draw for: the concepts, general nouns that must stay, and how to draw.

    ``steps`` a picture, ``batch`` pictures at a time; ``cache``: where an attack may keep what is dear to find again; ``folder``: where
    relative paths in its options start.
    ``which`` of the two models it is for, base first, and the ``digests`` of what their pictures depend on, are set by the audit;
    so are ``kept``, what an interrupted run has already drawn by prompt text and seed, ``enough``, which says whether a limit is
    decided and pictures of a prompt need not be drawn any more, and ``shows``: an attacker sees whether he has what he wanted.
    ``base`` is the base model's directory, for attacks that put parts of it back.
    """

    concepts: tuple[Concept, ...]
    retain: tuple[str, ...]
    seed: int
    steps: int
    batch: int
    cache: Path | None = None
    progress: Progress | None = None
    which: Which = "base"
    folder: Path = Path()
    digests: Mapping[Which, str] = field(default_factory=dict)
    kept: Mapping[tuple[str, int], Sample] = field(default_factory=dict)
    enough: Callable[[Prompt], bool] | None = None
    shows: Shows | None = None
    base: Path | None = None


@dataclass(frozen=True)
class Score:
    """What a metric returns. Counts (``k`` of ``n``, and the same by prompt) where there are any; else ``value`` with its 95% interval."""

    n: int
    value: float
    low: float
    high: float
    k: int | None = None
    prompts: int | None = None
    prompts_hit: int | None = None


@dataclass(frozen=True)
class Finding:
    """One measured line of the report.

    ``concept`` is None for retained prompts. ``low``/``high``: two-sided 95% interval of ``value``; ``bound``: the
    one-sided confidence bound that the limit is compared with. ``status`` is "control" for the base model's lines and
    "measured" for the erased model's where no limit is set.
    ``cost`` counts model evaluations (one image, one denoising step).
    ``corrected`` (with ``corrected_low``, ``corrected_high``): the rate if the detector made no mistakes, as labelled pictures tell;
    None where it was not tried on any. ``prompts``: how many different prompts the n pictures come from, ``prompts_hit``: from how
    many of them at least one was a hit. ``planned``: how many pictures there would have been had the limit not been decided earlier.
    ``lost``, ``gained``: of what must stay, pairs in which only the base model, or only the erased one, drew it.
    """

    concept: str | None
    attack: str
    metric: str
    model: Which
    k: int | None
    n: int
    value: float | None
    low: float | None
    high: float | None
    status: Status
    bound: float | None = None
    limit: float | None = None
    reason: str = ""
    seed: int = 0
    cost: int = 0
    corrected: float | None = None
    corrected_low: float | None = None
    corrected_high: float | None = None
    prompts: int | None = None
    prompts_hit: int | None = None
    planned: int | None = None
    lost: int | None = None
    gained: int | None = None


@dataclass(frozen=True)
class Report:
    """All findings of a release and what they do not cover. Its verdict is computed, see ``safeflux.report``.

    ``subject`` names the files that were examined where the report does not come with them: empty for a release's own report.

    What each mapping holds is written, field by field, in ``schemas/erasure_report.schema.json``.
    """

    name: str
    version: str
    concepts: tuple[str, ...]
    base: Mapping[str, object]
    method: Mapping[str, object]
    edit: Mapping[str, object]
    environment: Mapping[str, object]
    limits: Mapping[str, object]
    not_tested: tuple[str, ...]
    findings: tuple[Finding, ...]
    bake: Mapping[str, object] = field(default_factory=dict)
    training: Mapping[str, object] = field(default_factory=dict)
    pairs: tuple[Mapping[str, object], ...] = ()
    policy: Mapping[str, object] = field(default_factory=dict)
    detectors: tuple[Mapping[str, object], ...] = ()
    subject: Mapping[str, object] = field(default_factory=dict)
    exports: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True)
class Masks:
    """Binary gates by site: ``keep[site]`` is a bool tensor [units of the site]; False is erased."""

    keep: Mapping[str, Tensor]


@dataclass(frozen=True)
class LowRank:
    """Low-rank updates by linear layer: ``factors[path] = (down [r, in], up [out, r])``; W becomes W + up @ down."""

    factors: Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Weights:
    """Whole tensors that replace those of the same name in the transformer's state dict."""

    tensors: Mapping[str, Tensor]


Edit = Masks | LowRank | Weights
