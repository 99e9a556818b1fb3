"""Where a FLUX.1 transformer can be cut."""

from __future__ import annotations

from collections.abc import Iterator

from diffusers import FluxTransformer2DModel

from safeflux.models.sites import Site

# AdaLN modulation outputs in the order in which diffusers chunks them, by what they do to which half of a block.
DOUBLE_CHUNKS = ("shift_msa", "scale_msa", "gate_msa", "shift_mlp", "scale_mlp", "gate_mlp")
SINGLE_CHUNKS = ("shift_msa", "scale_msa", "gate_msa")


def find_sites(transformer: FluxTransformer2DModel) -> dict[str, Site]:
    """Every site of the transformer by name, in forward order.

    Neurons: of the pooled-text embedder, of the FFNs of both streams, of the single blocks' MLPs. Modulation outputs of every
    AdaLN, chunk by chunk. Attention heads.
    """
    found = [_embedder(transformer)]
    for n in range(len(transformer.transformer_blocks)):
        found += _double(transformer, n)
    for n in range(len(transformer.single_transformer_blocks)):
        found += _single(transformer, n)
    return {site.name: site for site in found}


def _embedder(transformer: FluxTransformer2DModel) -> Site:
    at = "time_text_embed.text_embedder"
    units = transformer.time_text_embed.text_embedder.linear_1.out_features
    return Site(at, "neuron", "text_embedder", units, f"{at}.act_1", f"{at}.linear_1", f"{at}.linear_2")


def _double(transformer: FluxTransformer2DModel, n: int) -> Iterator[Site]:
    block, at, head = transformer.transformer_blocks[n], f"transformer_blocks.{n}", transformer.config.attention_head_dim
    for name in ("ff", "ff_context"):
        up, down = f"{at}.{name}.net.0.proj", f"{at}.{name}.net.2"
        yield Site(f"{at}.{name}", "neuron", name, getattr(block, name).net[0].proj.out_features, f"{at}.{name}.net.0", up, down)
    for name in ("norm1", "norm1_context"):
        yield from _chunks(at, name, DOUBLE_CHUNKS, transformer.inner_dim)
    for name, module in (("to_out.0", block.attn.to_out[0]), ("to_add_out", block.attn.to_add_out)):
        path = f"{at}.attn.{name}"
        yield Site(path, "head", f"attn.{name}", module.in_features // head, path, None, path, width=head)


def _single(transformer: FluxTransformer2DModel, n: int) -> Iterator[Site]:
    block, at = transformer.single_transformer_blocks[n], f"single_transformer_blocks.{n}"
    dim, head = transformer.inner_dim, transformer.config.attention_head_dim
    out = f"{at}.proj_out"  # reads the attention's numbers first, then the MLP's
    yield Site(f"{at}.proj_mlp", "neuron", "proj_mlp", block.proj_mlp.out_features, f"{at}.act_mlp", f"{at}.proj_mlp", out, dim)
    yield from _chunks(at, "norm", SINGLE_CHUNKS, dim)
    yield Site(f"{at}.attn", "head", "attn", dim // head, out, None, out, width=head)


def _chunks(at: str, name: str, chunks: tuple[str, ...], dim: int) -> Iterator[Site]:
    linear = f"{at}.{name}.linear"
    for i, chunk in enumerate(chunks):
        yield Site(f"{at}.{name}.{chunk}", "modulation", f"{name}.{chunk}", dim, linear, linear, None, row=i * dim)
