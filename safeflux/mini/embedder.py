"""A small image-text embedding in the manner of CLIP (Radford et al. 2021, arXiv 2103.00020), trained on the drawn world.

What CLIPScore, FID and CMMD take from a large embedding on photographs, metrics on the mini take from this one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from safeflux.mini.captions import caption, random_scene
from safeflux.mini.detector import Judge, Residual, to_input, wear
from safeflux.mini.fit import descend
from safeflux.mini.text import CLIP_LENGTH
from safeflux.mini.world import render

if TYPE_CHECKING:
    from diffusers import AutoencoderTiny
    from numpy.typing import NDArray

    from safeflux.mini.autoencoder import Code

DIMENSION = 64
PATH = Path(__file__).parent / "detectors" / "embedder.safetensors"
TOKENIZER = Path(__file__).parent / "model" / "tokenizer"


class Towers(nn.Module):
    """Images through the judge's kind of CNN, texts through a two-layer transformer; both end in unit vectors."""

    def __init__(self, vocabulary: int, width: int = 96) -> None:
        super().__init__()
        self.image = Judge(DIMENSION)
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.randn(1, CLIP_LENGTH, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.text = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.project = nn.Linear(width, DIMENSION)
        self.scale = nn.Parameter(torch.tensor(2.5))

    def images(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] to unit vectors [N, DIMENSION]."""
        return F.normalize(self.image(x), dim=1)

    def texts(self, ids: Tensor) -> Tensor:
        """Token ids [N, CLIP_LENGTH] to unit vectors [N, DIMENSION]."""
        return F.normalize(self.project(self.text(self.token(ids) + self.position).mean(1)), dim=1)


def encode(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    ids: Tensor = tokenizer(list(texts), padding="max_length", truncation=True, max_length=CLIP_LENGTH, return_tensors="pt").input_ids
    return ids


class Embedder:
    """Unit vectors for pictures and texts; their cosine is the embedding score."""

    name = "flux-mini embedder"

    def __init__(self, towers: Towers, tokenizer: CLIPTokenizer) -> None:
        self._towers, self._tokenizer = towers.eval(), tokenizer

    @torch.no_grad()
    def images(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[N, SIZE, SIZE, 3] of 0..255 to [N, DIMENSION]."""
        parts = [self._towers.images(to_input(images[i : i + 128])) for i in range(0, len(images), 128)]
        return torch.cat(parts).numpy() if parts else np.zeros((0, DIMENSION), np.float32)

    @torch.no_grad()
    def layers(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """[N, SIZE, SIZE, 3] of 0..255 to what leaves each stage of the image tower: [N, channels, places]."""
        x, found = to_input(images), []
        for layer in self._towers.image.features:
            x = layer(x)
            if isinstance(layer, Residual):
                found.append(x.flatten(2).numpy())
        return found

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """N texts to [N, DIMENSION]."""
        return self._towers.texts(encode(self._tokenizer, texts)).numpy() if texts else np.zeros((0, DIMENSION), np.float32)


@lru_cache(maxsize=1)
def load() -> Embedder:
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
    towers = Towers(len(tokenizer))
    towers.load_state_dict(load_file(PATH))
    return Embedder(towers, tokenizer)


def train(
    code: Code, vae: AutoencoderTiny, tokenizer: CLIPTokenizer, *, steps: int, batch: int, seed: int, tick: Callable[[int, float], None]
) -> Towers:
    """Symmetric contrastive loss over captions and worn pictures."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    device = code.mean.device
    towers = Towers(len(tokenizer)).to(device)
    truth = torch.arange(batch, device=device)

    def loss() -> Tensor:
        drawn = [random_scene(rng) for _ in range(batch)]
        x = wear(to_input(np.stack([render(scene, rng) for scene, _ in drawn])).to(device), code, vae, rng)
        ids = encode(tokenizer, [caption(scene, rng, generic=generic) for scene, generic in drawn]).to(device)
        logits = towers.images(x) @ towers.texts(ids).T * towers.scale.exp()
        return (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2

    descend(towers, loss, steps=steps, lr=2e-3, decay=0.02, tick=tick)
    return towers.eval()
