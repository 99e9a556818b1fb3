"""FLUX.1: blocks with a stream for pictures and one for text, then blocks with both in one."""

from __future__ import annotations

from safeflux.families.parts import THREE, Blocks, Family, Heads, Modulation, Neurons

EMBEDDER = Neurons(
    "time_text_embed.text_embedder",
    ("time_text_embed.text_embedder.linear_1",),
    "time_text_embed.text_embedder.act_1",
    "time_text_embed.text_embedder.linear_2",
    group="text_embedder",
)
FF = (
    Neurons("ff", ("ff.net.0.proj",), "ff.net.0", "ff.net.2"),
    Neurons("ff_context", ("ff_context.net.0.proj",), "ff_context.net.0", "ff_context.net.2"),
)
HEADS = (Heads("attn.to_out.0", "attn", "attn.to_out.0"), Heads("attn.to_add_out", "attn", "attn.to_add_out"))
SINGLE_FF = Neurons("proj_mlp", ("proj_mlp",), "act_mlp", "proj_out", column=1)  # which reads the attention's numbers first
SINGLE_HEADS = Heads("attn", "attn", "proj_out")

FLUX1 = Family(
    name="FLUX.1",
    transformer="FluxTransformer2DModel",
    published={
        "black-forest-labs/FLUX.1-schnell": "FluxPipeline",
        "black-forest-labs/FLUX.1-dev": "FluxPipeline",
        "black-forest-labs/FLUX.1-Krea-dev": "FluxPipeline",
        "black-forest-labs/FLUX.1-Kontext-dev": "FluxKontextPipeline",
        "black-forest-labs/FLUX.1-Fill-dev": "FluxFillPipeline",
    },
    blocks=(
        Blocks("", (EMBEDDER,)),
        Blocks(
            "transformer_blocks",
            (*FF, Modulation("norm1", "norm1.linear"), Modulation("norm1_context", "norm1_context.linear"), *HEADS),
        ),
        Blocks("single_transformer_blocks", (SINGLE_FF, Modulation("norm", "norm.linear", (THREE,)), SINGLE_HEADS)),
    ),
    scope="per block",
    single_file="safeflux.models.flux1_original:named",
)
