"""FLUX.1 in the layout it was published in, which ComfyUI, Forge and most other tools than diffusers read: one file, other names.

Queries, keys and values are one layer there, in single blocks with the MLP's; the last modulation has shift before scale.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from safeflux.errors import ModelError, StageError
from safeflux.models.tensors import Stored
from safeflux.plan.exports import other_width

Keys = Literal["original", "diffusers"]
MLP = 4  # times the width: that of every feed-forward layer

_ENDS = {
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "context_embedder": "txt_in",
    "x_embedder": "img_in",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
_DOUBLE = {
    "norm1.linear": "img_mod.lin", "norm1_context.linear": "txt_mod.lin",
    "attn.to_out.0": "img_attn.proj", "attn.to_add_out": "txt_attn.proj",
    "ff.net.0.proj": "img_mlp.0", "ff.net.2": "img_mlp.2", "ff_context.net.0.proj": "txt_mlp.0", "ff_context.net.2": "txt_mlp.2",
}  # fmt: skip
_SINGLE = {"norm.linear": "modulation.lin", "proj_out": "linear2"}
_DOUBLE_JOINED = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
_SINGLE_JOINED = {"linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")}
_DOUBLE_NORMS = {
    "attn.norm_q": "img_attn.norm.query_norm", "attn.norm_k": "img_attn.norm.key_norm",
    "attn.norm_added_q": "txt_attn.norm.query_norm", "attn.norm_added_k": "txt_attn.norm.key_norm",
}  # fmt: skip
_SINGLE_NORMS = {"attn.norm_q": "norm.query_norm", "attn.norm_k": "norm.key_norm"}
_INNER = re.compile(r".*\.(ff\.net\.0\.proj|ff_context\.net\.0\.proj|proj_mlp)\.weight")


def named(weights: Mapping[str, Stored], keys: Keys) -> dict[str, Stored]:
    """The tensors of a transformer for one file: under their original names, or under diffusers'.

    Raises StageError with the reason where no reader of such a file could load it: neurons are cut out, or, under original names,
    the width is another than FLUX.1's.
    """
    width = weights["x_embedder.weight"].shape[0]
    for name, one in weights.items():
        if _INNER.fullmatch(name) and one.shape[0] != MLP * width:
            raise StageError(
                f"{name} has {one.shape[0]} neurons, and every reader of a single file takes {MLP * width}: neurons that were cut out can "
                "be exported as a diffusers directory only, or kept as zeros (the layout dense)"
            )
    if keys == "diffusers":
        return dict(weights)
    if reason := other_width(width):
        raise StageError(reason)
    return original(weights)


def original(weights: Mapping[str, Stored]) -> dict[str, Stored]:
    """The same numbers in the original layout, at any width. Raises ModelError for a tensor that it has no place for."""
    left, found = dict(weights), dict[str, Stored]()

    def move(source: str, target: str) -> None:
        for part in ("weight", "bias"):
            if (one := left.pop(f"{source}.{part}", None)) is not None:
                found[f"{target}.{part}"] = _swapped(one) if source == "norm_out.linear" else one

    for source, target in _ENDS.items():
        move(source, target)
    kinds = (
        ("transformer_blocks", "double_blocks", _DOUBLE, _DOUBLE_JOINED, _DOUBLE_NORMS),
        ("single_transformer_blocks", "single_blocks", _SINGLE, _SINGLE_JOINED, _SINGLE_NORMS),
    )
    for ours, theirs, alone, joined, norms in kinds:
        for n in range(len({name.split(".")[1] for name in weights if name.startswith(f"{ours}.")})):
            for source, target in alone.items():
                move(f"{ours}.{n}.{source}", f"{theirs}.{n}.{target}")
            for target, sources in joined.items():
                for part in ("weight", "bias"):
                    found[f"{theirs}.{n}.{target}.{part}"] = _joined([left.pop(f"{ours}.{n}.{source}.{part}") for source in sources])
            for source, target in norms.items():
                found[f"{theirs}.{n}.{target}.scale"] = left.pop(f"{ours}.{n}.{source}.weight")
    if left:
        raise ModelError(f"the original layout has no place for {min(left)}; wanted the transformer of a FLUX.1")
    return found


def _joined(parts: list[Stored]) -> Stored:
    rows = sum(part.shape[0] for part in parts)
    return Stored((rows, *parts[0].shape[1:]), parts[0].dtype, lambda: torch.cat([part.read() for part in parts]))


def _swapped(one: Stored) -> Stored:
    def read() -> Tensor:
        scale, shift = one.read().chunk(2)
        return torch.cat([shift, scale])

    return Stored(one.shape, one.dtype, read)
