"""The mini's autoencoder: an ``AutoencoderTiny`` (as taef1), 16 latent channels at 8x.

Its latent code is chosen first: the principal components of the world's 8x8 patches, scaled so that coarse components stay
larger than fine ones. Encoder and decoder then learn that code separately, each a plain regression, which trains in
minutes where the usual joint training from nothing takes hours; and the transformer can start on exact latents at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.nn import functional as F

from safeflux.mini.captions import random_scene
from safeflux.mini.fit import descend
from safeflux.mini.world import render

CHANNELS = 16
PATCH = 8
WIDTH = 32
LATENT_NOISE = 0.25  # the decoder must forgive what a small generator gets wrong


def build() -> AutoencoderTiny:
    return AutoencoderTiny(
        encoder_block_out_channels=(WIDTH,) * 4, decoder_block_out_channels=(WIDTH,) * 4, num_encoder_blocks=(1, 2, 2, 2),
        num_decoder_blocks=(3, 3, 2, 1), latent_channels=16, scaling_factor=1.0, shift_factor=0.0,
    )  # fmt: skip


def pictures(n: int, rng: random.Random) -> Tensor:
    """``n`` random scenes: ``[n, 3, SIZE, SIZE]`` in [-1, 1]."""
    scenes = [random_scene(rng)[0] for _ in range(n)]
    return torch.stack([torch.from_numpy(render(s, rng).copy()) for s in scenes]).permute(0, 3, 1, 2).float() / 127.5 - 1


@dataclass(frozen=True)
class Code:
    """A linear code of 8x8 patches: ``latent = (patch - mean) @ analysis``; ``synthesis`` is its pseudo-inverse.

    mean [192], analysis [192, CHANNELS], synthesis [CHANNELS, 192]. A component of variance e gets variance e ** 0.25,
    times one constant that makes the mean variance 1.
    """

    mean: Tensor
    analysis: Tensor
    synthesis: Tensor

    @staticmethod
    def fit(n: int, seed: int) -> Code:
        patches = _patches(pictures(n, random.Random(seed))).flatten(0, 2)
        mean = patches.mean(0)
        values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
        values, vectors = values[-CHANNELS:].flip(0), vectors[:, -CHANNELS:].flip(1)
        vectors = vectors * vectors.sum(0).sign()
        scale = values.pow(-0.375) / values.pow(0.25).mean().sqrt()
        return Code(mean, vectors * scale, (vectors / scale).T)

    def to(self, device: torch.device) -> Code:
        return Code(self.mean.to(device), self.analysis.to(device), self.synthesis.to(device))

    def encode(self, x: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] to latents [B, CHANNELS, H/8, W/8]."""
        return ((_patches(x) - self.mean) @ self.analysis).permute(0, 3, 1, 2)

    def decode(self, z: Tensor) -> Tensor:
        """The best linear reconstruction."""
        b, _, h, w = z.shape
        patches = z.permute(0, 2, 3, 1) @ self.synthesis + self.mean
        return patches.reshape(b, h, w, 3, PATCH, PATCH).permute(0, 3, 1, 4, 2, 5).reshape(b, 3, h * PATCH, w * PATCH)


def _patches(x: Tensor) -> Tensor:
    """[B, 3, H, W] to [B, H/8, W/8, 192]."""
    b, c, h, w = x.shape
    return x.reshape(b, c, h // PATCH, PATCH, w // PATCH, PATCH).permute(0, 2, 4, 1, 3, 5).reshape(b, h // PATCH, w // PATCH, -1)


def train_decoder(vae: AutoencoderTiny, code: Code, *, steps: int, batch: int, seed: int, tick: Callable[[int, float], None]) -> None:
    """The decoder learns to draw from exact latents with noise on them: a small generator's mistakes are forgiven."""

    def loss(x: Tensor) -> Tensor:
        z = code.encode(x)
        level = torch.rand(len(z), 1, 1, 1, device=z.device) * LATENT_NOISE
        return reconstruction_loss(vae.decoder(z + level * torch.randn_like(z)), x)

    _regress(vae.decoder, loss, steps, batch, seed, tick)


def train_encoder(vae: AutoencoderTiny, code: Code, *, steps: int, batch: int, seed: int, tick: Callable[[int, float], None]) -> None:
    """The encoder learns the linear code."""
    _regress(vae.encoder, lambda x: F.mse_loss(vae.encoder(x), code.encode(x)), steps, batch, seed, tick)


def _regress(
    module: nn.Module, objective: Callable[[Tensor], Tensor], steps: int, batch: int, seed: int, tick: Callable[[int, float], None]
) -> None:
    torch.manual_seed(seed)
    rng = random.Random(seed)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    device = next(module.parameters()).device
    descend(
        module, lambda: objective(pictures(batch, rng).to(device, memory_format=torch.channels_last)), steps=steps, lr=1.5e-3,
        decay=1e-4, beta=0.99, tick=tick,
    )  # fmt: skip


def reconstruction_loss(y: Tensor, x: Tensor) -> Tensor:
    """Squared and absolute error of pixels, and absolute error of their differences (edges)."""
    edges = F.l1_loss(y.diff(dim=-1), x.diff(dim=-1)) + F.l1_loss(y.diff(dim=-2), x.diff(dim=-2))
    return F.l1_loss(y, x) + 2 * F.mse_loss(y, x) + 0.5 * edges
