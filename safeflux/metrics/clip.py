"""A CLIP-style model of transformers as the embedder that pictures of a real FLUX are measured with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from safeflux.errors import StageError

MODEL = "openai/clip-vit-large-patch14"
_BATCH = 16


@dataclass(frozen=True)
class Clip:
    """An ``Embedder``."""

    name: str
    model: Any
    processor: Any

    @torch.no_grad()
    def images(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pictures [N, H, W, 3] to unit vectors [N, D]."""
        from PIL import Image

        parts = []
        for start in range(0, len(images), _BATCH):
            inputs = self.processor(images=[Image.fromarray(image) for image in images[start : start + _BATCH]], return_tensors="pt")
            parts.append(_unit(self.model.get_image_features(**inputs.to(self.model.device))))
        return np.concatenate(parts)

    @torch.no_grad()
    def layers(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Pictures [N, H, W, 3] to the hidden states [N, channels, patches] after each layer of the vision model."""
        from PIL import Image

        inputs = self.processor(images=[Image.fromarray(image) for image in images], return_tensors="pt").to(self.model.device)
        states = self.model.vision_model(**inputs, output_hidden_states=True).hidden_states
        return [state.transpose(1, 2).float().cpu().numpy() for state in states[1:]]

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts, cut to what the model reads, to unit vectors [N, D]."""
        parts = []
        for start in range(0, len(texts), _BATCH):
            some = list(texts[start : start + _BATCH])
            inputs = self.processor(text=some, padding=True, truncation=True, return_tensors="pt")
            parts.append(_unit(self.model.get_text_features(**inputs.to(self.model.device))))
        return np.concatenate(parts)


def load(model: str = MODEL, *, revision: str | None = None) -> Clip:
    """``model`` is a directory, or a hub id at ``revision``. Safetensors only. Raises StageError when it cannot be loaded."""
    from transformers import AutoModel, AutoProcessor

    try:
        loaded = AutoModel.from_pretrained(model, revision=revision, use_safetensors=True).eval()
        processor = AutoProcessor.from_pretrained(model, revision=revision)
    except (OSError, ValueError) as error:
        raise StageError(f"the embedder {model} cannot be loaded: {error}") from error
    return Clip(model, loaded, processor)


def _unit(features: Any) -> NDArray[np.float32]:
    """Newer transformers wrap the vectors in an output object."""
    vectors = features if isinstance(features, torch.Tensor) else features.pooler_output
    unit: NDArray[np.float32] = torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
    return unit
