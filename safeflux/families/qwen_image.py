"""Qwen-Image: blocks with a stream for pictures and one for text, and nothing but these."""

from __future__ import annotations

from safeflux.families.flux1 import HEADS
from safeflux.families.parts import Blocks, Family, Modulation, Neurons

QWEN_IMAGE = Family(
    name="Qwen-Image",
    transformer="QwenImageTransformer2DModel",
    published={
        "Qwen/Qwen-Image": "QwenImagePipeline",
        "Qwen/Qwen-Image-Edit": "QwenImageEditPipeline",
        "Qwen/Qwen-Image-Edit-2509": "QwenImageEditPlusPipeline",
    },
    blocks=(
        Blocks(
            "transformer_blocks",
            (
                Neurons("img_mlp", ("img_mlp.net.0.proj",), "img_mlp.net.0", "img_mlp.net.2"),
                Neurons("txt_mlp", ("txt_mlp.net.0.proj",), "txt_mlp.net.0", "txt_mlp.net.2"),
                Modulation("img_mod", "img_mod.1"),
                Modulation("txt_mod", "txt_mod.1"),
                *HEADS,
            ),
        ),
    ),
    scope="per block",
)
