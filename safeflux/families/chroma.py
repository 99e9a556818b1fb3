"""Chroma: the blocks of FLUX.1, with no modulation of their own."""

from __future__ import annotations

from safeflux.families.flux1 import FF, HEADS, SINGLE_FF, SINGLE_HEADS
from safeflux.families.parts import Blocks, Family

CHROMA = Family(
    name="Chroma",
    transformer="ChromaTransformer2DModel",
    published={"lodestones/Chroma1-HD": "ChromaPipeline", "lodestones/Chroma1-Base": "ChromaPipeline"},
    blocks=(Blocks("transformer_blocks", (*FF, *HEADS)), Blocks("single_transformer_blocks", (SINGLE_FF, SINGLE_HEADS))),
    scope="none",  # one small network makes the modulation of all blocks; none of its rows belongs to a block
)
