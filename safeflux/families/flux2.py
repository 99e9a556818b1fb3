"""FLUX.2: gated feed-forward layers without biases, and one modulation for all blocks of a kind."""

from __future__ import annotations

from safeflux.families.flux1 import HEADS
from safeflux.families.parts import THREE, Blocks, Family, Heads, Modulation, Neurons

FLUX2 = Family(
    name="FLUX.2",
    transformer="Flux2Transformer2DModel",
    published={
        "black-forest-labs/FLUX.2-dev": "Flux2Pipeline",
        "black-forest-labs/FLUX.2-klein-4B": "Flux2KleinPipeline",
        "black-forest-labs/FLUX.2-klein-9B": "Flux2KleinPipeline",
    },
    blocks=(
        Blocks(
            "",
            (
                Modulation("double_stream_modulation_img", "double_stream_modulation_img.linear"),
                Modulation("double_stream_modulation_txt", "double_stream_modulation_txt.linear"),
                Modulation("single_stream_modulation", "single_stream_modulation.linear", (THREE,)),
            ),
        ),
        Blocks(
            "transformer_blocks",
            (
                Neurons("ff", ("ff.linear_in",), "ff.act_fn", "ff.linear_out", halves=2),
                Neurons("ff_context", ("ff_context.linear_in",), "ff_context.act_fn", "ff_context.linear_out", halves=2),
                *HEADS,
            ),
        ),
        Blocks(
            "single_transformer_blocks",
            (  # queries, keys and values come first in the one layer, the attention's numbers in the other
                Neurons("mlp", ("attn.to_qkv_mlp_proj",), "attn.mlp_act_fn", "attn.to_out", halves=2, row=3, column=1),
                Heads("attn", "attn", "attn.to_out"),
            ),
        ),
    ),
    scope="shared",
)
