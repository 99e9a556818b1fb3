"""The linear layers of a FLUX.1 transformer, by what they do: what a fine-tuning method trains."""

from __future__ import annotations

from typing import Literal

from diffusers import FluxTransformer2DModel
from torch import nn

Layers = Literal["text-attention", "attention", "ff"]

_TEXT = ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out")
_DOUBLE: dict[Layers, tuple[str, ...]] = {
    "text-attention": _TEXT,
    "attention": ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", *_TEXT),
    "ff": ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"),
}
# A single block's proj_out reads attention and MLP alike; it goes with the MLP, whose numbers are four fifths of what it reads.
_SINGLE: dict[Layers, tuple[str, ...]] = {
    "text-attention": (),
    "attention": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "ff": ("proj_mlp", "proj_out"),
}


def linear_layers(transformer: FluxTransformer2DModel, which: Layers) -> dict[str, nn.Module]:
    """Layers by path, in forward order.

    "text-attention": the text stream's attention in double blocks; "attention": all attention, of both streams and both kinds of
    blocks; "ff": all feed-forward layers. They have weights and biases.
    """
    paths = [f"transformer_blocks.{n}.{name}" for n in range(len(transformer.transformer_blocks)) for name in _DOUBLE[which]]
    paths += [f"single_transformer_blocks.{n}.{name}" for n in range(len(transformer.single_transformer_blocks)) for name in _SINGLE[which]]
    return {path: transformer.get_submodule(path) for path in paths}
