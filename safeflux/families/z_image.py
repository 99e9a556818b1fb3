"""Z-Image: one stream; a neuron is the product of two layers' rows. Blocks that see the text alone are not modulated."""

from __future__ import annotations

from safeflux.families.parts import Blocks, Family, Heads, Modulation, Neurons

BARE = (
    Neurons("feed_forward", ("feed_forward.w1", "feed_forward.w3"), "feed_forward.w3", "feed_forward.w2"),
    Heads("attention", "attention", "attention.to_out.0"),
)
MODULATED = (*BARE, Modulation("adaLN_modulation", "adaLN_modulation.0", (("scale_msa", "gate_msa", "scale_mlp", "gate_mlp"),)))

Z_IMAGE = Family(
    name="Z-Image",
    transformer="ZImageTransformer2DModel",
    published={"Tongyi-MAI/Z-Image-Turbo": "ZImagePipeline"},
    blocks=(
        Blocks("noise_refiner", MODULATED),
        Blocks("context_refiner", BARE),
        Blocks("siglip_refiner", BARE, some=True),
        Blocks("layers", MODULATED),
    ),
    scope="per block",
    width="dim",
)
