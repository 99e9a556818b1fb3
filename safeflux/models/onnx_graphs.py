"""The networks of a FLUX pipeline as graphs to be exported, with inputs and outputs by the names that optimum's pipelines use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Inputs = dict[str, Tensor]
Axes = Mapping[str, tuple[str, ...]]  # of each input, what its leading dimensions are called; those left out are fixed


@dataclass(frozen=True)
class Graph:
    """``module`` takes ``inputs(size)`` by name and gives ``outputs``, in order. It is exported at size 0; 1 and 2 are others."""

    name: str
    module: nn.Module
    inputs: Callable[[int], Inputs]
    axes: Axes
    outputs: tuple[str, ...]


class _Part(nn.Module):
    """A network with the inputs and outputs of its graph; exporters read the names of ``forward``'s arguments."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner


class _Clip(_Part):
    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        state, pooled = self.inner(input_ids)[:2]
        return state, pooled


class _T5(_Part):
    def forward(self, input_ids: Tensor) -> Tensor:
        state: Tensor = self.inner(input_ids)[0]
        return state


class _Transformer(_Part):
    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, pooled_projections: Tensor, timestep: Tensor, img_ids: Tensor,
        txt_ids: Tensor, guidance: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        found: Tensor = self.inner(
            hidden_states=hidden_states, encoder_hidden_states=encoder_hidden_states, pooled_projections=pooled_projections,
            timestep=timestep, img_ids=img_ids, txt_ids=txt_ids, guidance=guidance, return_dict=False,
        )[0]  # fmt: skip
        return found


class _Decoder(_Part):
    def forward(self, latent_sample: Tensor) -> Tensor:
        pictures: Tensor = self.inner.decode(latent_sample, return_dict=False)[0]
        return pictures


class _Encoder(_Part):
    def forward(self, sample: Tensor) -> Tensor:
        return _latents(self.inner.encode(sample))


_BATCH, _IMAGE, _TEXT, _SIDES = (2, 3, 1), ((4, 3), (6, 5), (3, 3)), (7, 11, 5), ((4, 6), (8, 4), (6, 6))


def graphs(pipe: Any) -> Iterator[Graph]:
    """Every network of a ``FluxPipeline``: both text encoders, transformer, both halves of the autoencoder."""
    for encoder in (pipe.text_encoder, pipe.text_encoder_2):
        encoder.set_attn_implementation("eager")  # a view that scaled_dot_product_attention needs cannot be exported
    yield _text("text_encoder", _Clip(pipe.text_encoder), ("last_hidden_state", "pooler_output"))
    yield _text("text_encoder_2", _T5(pipe.text_encoder_2), ("last_hidden_state",))
    yield transformer(pipe.transformer)
    vae, axes = pipe.vae, ("batch_size", "", "height", "width")
    latents = _pictures("latent_sample", vae, vae.config.latent_channels, 1)
    yield Graph("vae_decoder", _Decoder(vae), latents, {"latent_sample": axes}, ("sample",))
    pictures = _pictures("sample", vae, vae.config.in_channels, 8)
    yield Graph("vae_encoder", _Encoder(vae), pictures, {"sample": axes}, ("latent_parameters",))


def transformer(model: Any) -> Graph:
    """The transformer, of whatever layout. A batch of pictures of S tokens, and T text tokens."""
    config, dtype = model.config, model.dtype

    def inputs(size: int) -> Inputs:
        b, (h, w), t = _BATCH[size], _IMAGE[size], _TEXT[size]
        draw = torch.Generator().manual_seed(size)
        places = torch.stack([torch.zeros(h * w), torch.arange(h).repeat_interleave(w), torch.arange(w).repeat(h)], dim=1)
        found = {
            "hidden_states": torch.randn(b, h * w, config.in_channels, generator=draw),
            "encoder_hidden_states": torch.randn(b, t, config.joint_attention_dim, generator=draw),
            "pooled_projections": torch.randn(b, config.pooled_projection_dim, generator=draw),
            "timestep": torch.rand(b, generator=draw), "img_ids": places, "txt_ids": torch.zeros(t, 3),
        }  # fmt: skip
        if config.guidance_embeds:
            found["guidance"] = torch.full((b,), 3.5)
        return {name: tensor.to(dtype) for name, tensor in found.items()}

    axes: dict[str, tuple[str, ...]] = {
        "hidden_states": ("batch_size", "image_tokens"), "encoder_hidden_states": ("batch_size", "text_tokens"),
        "pooled_projections": ("batch_size",), "timestep": ("batch_size",), "img_ids": ("image_tokens",), "txt_ids": ("text_tokens",),
    }  # fmt: skip
    if config.guidance_embeds:
        axes["guidance"] = ("batch_size",)
    return Graph("transformer", _Transformer(model), inputs, axes, ("out_hidden_states",))


def _text(name: str, part: _Part, outputs: tuple[str, ...]) -> Graph:
    config = part.inner.config
    longest = int(getattr(config, "max_position_embeddings", 1 << 20))

    def inputs(size: int) -> Inputs:
        draw = torch.Generator().manual_seed(size)
        shape = (_BATCH[size], min((12, 17, 9)[size], longest))
        return {"input_ids": torch.randint(0, config.vocab_size, shape, generator=draw)}

    return Graph(name, part, inputs, {"input_ids": ("batch_size", "sequence_length")}, outputs)


def _pictures(name: str, vae: Any, channels: int, scale: int) -> Callable[[int], Inputs]:
    def inputs(size: int) -> Inputs:
        draw, (h, w) = torch.Generator().manual_seed(size), _SIDES[size]
        return {name: torch.randn(_BATCH[size], channels, h * scale, w * scale, generator=draw).to(vae.dtype)}

    return inputs


def _latents(encoded: Any) -> Tensor:
    """Mean and log-variance; of an autoencoder that knows no variance, the least that readers allow, so that a sample is the mean."""
    if hasattr(encoded, "latent_dist"):
        parameters: Tensor = encoded.latent_dist.parameters
        return parameters
    return torch.cat([encoded.latents, torch.full_like(encoded.latents, -30.0)], dim=1)
