"""Any image-text model of transformers (CLIP, SigLIP...) as a detector: is the label a better caption than the alternatives?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from safeflux.errors import StageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TEMPLATES = ("a picture of {}", "{}")
NEGATIVES = ("a picture", "a picture of something else", "an empty scene", "a pattern", "a landscape", "a person", "an animal", "an object")


@dataclass(frozen=True)
class ZeroShot:
    """A ``Detector`` for any label. Fires where the positive captions together have more than ``threshold`` of the probability
    (softmax of the model's scaled similarities over positive and negative captions)."""

    model: Any
    processor: Any
    name: str
    threshold: float
    digest: str
    templates: tuple[str, ...]
    negatives: tuple[str, ...]
    batch: int
    labels: None = None

    def __call__(self, images: NDArray[np.uint8], label: str) -> NDArray[np.bool_]:
        """Pictures [N, H, W, 3] to [N]."""
        return self.probability(images, label) > self.threshold

    @torch.no_grad()
    def probability(self, images: NDArray[np.uint8], label: str) -> NDArray[np.float64]:
        """Of the positive captions, for each picture [N]."""
        from PIL import Image

        positive = [template.format(label) for template in self.templates]
        captions = positive + [text for text in self.negatives if text not in positive]
        parts = [np.zeros(0)]
        for start in range(0, len(images), self.batch):
            pictures = [Image.fromarray(image) for image in images[start : start + self.batch]]
            inputs = self.processor(text=captions, images=pictures, padding=True, truncation=True, return_tensors="pt")
            logits = self.model(**inputs.to(self.model.device)).logits_per_image
            parts.append(logits.double().softmax(dim=1)[:, : len(positive)].sum(dim=1).cpu().numpy())
        return np.concatenate(parts)


def zero_shot(
    *,
    model: str = "openai/clip-vit-large-patch14",
    revision: str | None = None,
    threshold: float = 0.5,
    templates: tuple[str, ...] = TEMPLATES,
    negatives: tuple[str, ...] = NEGATIVES,
    batch: int = 16,
) -> ZeroShot:
    """``model`` is a directory, or a hub id at ``revision``. Safetensors only; no code of the model's is run.

    Raises StageError when it cannot be loaded, or there is nothing to compare a label with.
    """
    from transformers import AutoModel, AutoProcessor

    if not templates or not negatives:
        raise StageError("the detector zero-shot compares captions: it needs at least one template and one negative caption")
    try:
        loaded = AutoModel.from_pretrained(model, revision=revision, use_safetensors=True).eval()
        processor = AutoProcessor.from_pretrained(model, revision=revision)
    except (OSError, ValueError) as error:
        raise StageError(f"the detector zero-shot cannot load {model}: {error}") from error
    commit = getattr(loaded.config, "_commit_hash", None)
    digest = commit or _digest(Path(model))
    return ZeroShot(loaded, processor, f"zero-shot {model}", threshold, digest, tuple(templates), tuple(negatives), batch)


def _digest(directory: Path) -> str:
    """sha256 over the names and bytes of a directory's files."""
    total = hashlib.sha256()
    for path in sorted(p for p in directory.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            total.update(f"{path.relative_to(directory).as_posix()}\0".encode() + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
