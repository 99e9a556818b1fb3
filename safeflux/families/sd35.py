"""Stable Diffusion 3 and 3.5: the last block has no feed-forward layer for text; the first ones of 3.5 medium attend twice."""

from __future__ import annotations

from dataclasses import replace

from safeflux.families.flux1 import EMBEDDER, FF, HEADS
from safeflux.families.parts import SIX, Blocks, Family, Heads, Modulation

NINE = (*SIX, "shift_msa2", "scale_msa2", "gate_msa2")
LAST = ("scale_msa", "shift_msa")

SD35 = Family(
    name="SD3.5",
    transformer="SD3Transformer2DModel",
    published={
        "stabilityai/stable-diffusion-3.5-large": "StableDiffusion3Pipeline",
        "stabilityai/stable-diffusion-3.5-large-turbo": "StableDiffusion3Pipeline",
        "stabilityai/stable-diffusion-3.5-medium": "StableDiffusion3Pipeline",
        "stabilityai/stable-diffusion-3-medium-diffusers": "StableDiffusion3Pipeline",
    },
    blocks=(
        Blocks("", (EMBEDDER,)),
        Blocks(
            "transformer_blocks",
            (
                FF[0],
                replace(FF[1], some=True),
                Modulation("norm1", "norm1.linear", (SIX, NINE)),
                Modulation("norm1_context", "norm1_context.linear", (SIX, LAST)),
                HEADS[0],
                replace(HEADS[1], some=True),
                Heads("attn2.to_out.0", "attn2", "attn2.to_out.0", some=True),
            ),
        ),
    ),
    scope="per block",
)
