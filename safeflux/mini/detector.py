"""Two classifiers that see what a picture of the world shows. One judges; the other, built differently, checks the judge.

Both are multi-label (every thing, character and style of ``world.LABELS``) and learn from rendered pictures that went
through what generated ones suffer: the autoencoder with noisy latents, blur, and pixel noise.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from safeflux.mini.captions import random_scene
from safeflux.mini.fit import descend
from safeflux.mini.world import LABELS, SIZE, Scene, render

if TYPE_CHECKING:
    from diffusers import AutoencoderTiny
    from numpy.typing import NDArray

    from safeflux.mini.autoencoder import Code

Which = Literal["judge", "checker"]
DIRECTORY = Path(__file__).parent / "detectors"


class Residual(nn.Module):
    """Two convolutions beside a straight way."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, width), nn.GELU(), nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class Judge(nn.Module):
    """A small residual CNN; max and mean pooling, so that two small things count as much as one large one."""

    def __init__(self, labels: int = len(LABELS)) -> None:
        super().__init__()
        widths = (24, 48, 80, 128)
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 5, stride=2, padding=2)]
        for i, width in enumerate(widths):
            layers.append(Residual(width))
            if i + 1 < len(widths):
                layers.append(nn.Conv2d(width, widths[i + 1], 3, stride=2, padding=1))
        self.features = nn.Sequential(*layers, nn.GroupNorm(8, widths[-1]), nn.GELU())
        self.head = nn.Linear(2 * widths[-1], labels)

    def forward(self, x: Tensor) -> Tensor:
        f = self.features(x)
        out: Tensor = self.head(torch.cat([f.amax((2, 3)), f.mean((2, 3))], dim=1))
        return out


class Checker(nn.Module):
    """A small vision transformer on a convolutional stem (Xiao et al. 2021, arXiv 2106.14881)."""

    def __init__(self, labels: int = len(LABELS), width: int = 96, depth: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 4, stride=2, padding=1), nn.GELU(), nn.Conv2d(32, 64, 4, stride=2, padding=1), nn.GELU(),
            nn.Conv2d(64, width, 4, stride=2, padding=1),
        )  # fmt: skip
        self.position = nn.Parameter(torch.randn(1, (SIZE // 8) ** 2, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 3 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(2 * width, labels)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.body(self.stem(x).flatten(2).transpose(1, 2) + self.position)
        out: Tensor = self.head(torch.cat([tokens.amax(1), tokens.mean(1)], dim=1))
        return out


def build(which: Which) -> nn.Module:
    return Judge() if which == "judge" else Checker()


@lru_cache(maxsize=2)
def load(which: Which) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """A function from pictures [N, SIZE, SIZE, 3] to scores [N, len(LABELS)] in 0..1; 0.5 is the threshold."""
    model = build(which)
    model.load_state_dict(load_file(DIRECTORY / f"{which}.safetensors"))
    model.eval()

    @torch.no_grad()
    def scores(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = [torch.sigmoid(model(to_input(pictures[i : i + 128]))) for i in range(0, len(pictures), 128)]
        return torch.cat(parts).numpy() if parts else np.zeros((0, len(LABELS)), np.float32)

    return scores


def to_input(pictures: NDArray[np.uint8]) -> Tensor:
    """[N, H, W, 3] of 0..255 to [N, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def targets(scenes: list[Scene]) -> Tensor:
    """[N, len(LABELS)] of 0 and 1."""
    return torch.tensor([[float(label in s.labels) for label in LABELS] for s in scenes])


@torch.no_grad()
def wear(x: Tensor, code: Code, vae: AutoencoderTiny, rng: random.Random) -> Tensor:
    """What generation does to a picture: half the batch through noisy latents, then blur, shift of tone and pixel noise."""
    half = len(x) // 2
    z = code.encode(x[:half])
    z = z + torch.randn_like(z) * torch.rand(half, 1, 1, 1, device=z.device) * 0.45
    x = torch.cat([vae.decode(z).sample.clamp(-1, 1), x[half:]])
    if rng.random() < 0.4:
        k = torch.tensor([0.25, 0.5, 0.25], device=x.device)
        x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), (k[:, None] * k).expand(3, 1, 3, 3), groups=3)
    tone = 1 + 0.08 * torch.randn(len(x), 3, 1, 1, device=x.device)
    return (x * tone + 0.06 * torch.rand(len(x), 1, 1, 1, device=x.device) * torch.randn_like(x)).clamp(-1, 1)


def train(
    which: Which, code: Code, vae: AutoencoderTiny, *, steps: int, batch: int, seed: int, tick: Callable[[int, float], None]
) -> nn.Module:
    torch.manual_seed(seed)
    rng = random.Random(seed)
    device = code.mean.device
    model = build(which).to(device)

    def loss() -> Tensor:
        scenes = [random_scene(rng)[0] for _ in range(batch)]
        x = wear(to_input(np.stack([render(s, rng) for s in scenes])).to(device), code, vae, rng)
        return F.binary_cross_entropy_with_logits(model(x), targets(scenes).to(device)) * len(LABELS)

    descend(model, loss, steps=steps, lr=2e-3, decay=0.02, tick=tick)
    return model.eval()
