"""FLUX.1 (and any diffusers FluxPipeline directory): names, units, feeding and sampling.

What is computed here equals what ``FluxPipeline`` computes for the same prompt, generator and steps; a test compares them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from torch import Tensor

from safeflux.errors import ModelError
from safeflux.families import wrong_pipeline
from safeflux.models.declared import find_sites
from safeflux.models.quiet import quiet
from safeflux.models.sites import Site
from safeflux.types import TextCond

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DECODED = 4 * 512**2  # pixels decoded at a time
GUIDANCE = 3.5  # what guidance-distilled models (dev) are fed; their pipeline's default


class Flux1:
    """A FLUX.1 ready to be rolled out. Text encoders are loaded when first needed and can be freed."""

    def __init__(self, directory: Path, pipe: FluxPipeline) -> None:
        self.directory = directory
        self.pipe = pipe
        self.transformer: FluxTransformer2DModel = pipe.transformer.eval().requires_grad_(False)
        self.vae = pipe.vae.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # convolutions like it
        self.device: torch.device = self.transformer.device
        self.dtype: torch.dtype = self.transformer.dtype
        distilled = bool(self.transformer.config.guidance_embeds)
        self.guidance = GUIDANCE if distilled else None
        self.max_length = min(512 if distilled else 256, int(pipe.tokenizer_2.model_max_length))
        self.size = picture_size(directory, pipe)
        self._ids: Tensor = pipe._prepare_latent_image_ids(1, self._grid, self._grid, self.device, torch.float32)

    @classmethod
    def load(
        cls,
        directory: Path | str,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        transformer: FluxTransformer2DModel | None = None,
    ) -> Flux1:
        """Load a diffusers directory; ``transformer`` replaces the directory's own (a baked one, say).

        Raises ``ModelError`` when it is not a FluxPipeline directory or its files do not fit.
        """
        directory = Path(directory)
        index = directory / "model_index.json"
        if not index.is_file():
            raise ModelError(f"{directory}: no model_index.json; wanted a diffusers FluxPipeline directory")
        if wrong := wrong_pipeline(json.loads(index.read_text(encoding="utf-8"))):
            raise ModelError(f"{index} {wrong}")
        parts: dict[str, Any] = {} if transformer is None else {"transformer": transformer}
        try:
            with quiet():
                pipe = FluxPipeline.from_pretrained(directory, dtype=dtype, use_safetensors=True, **parts)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"{directory}: diffusers cannot load it: {error}") from error
        return cls(directory, pipe.to(device))

    @property
    def _grid(self) -> int:
        return self.size // (int(self.pipe.vae_scale_factor) * 2)

    # text

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], prompts_2: Sequence[str] | None = None) -> TextCond:
        """T5 sequence [B, max_length, D] and pooled CLIP vector [B, P], as FluxPipeline makes them: no attention mask, cut at the end.

        ``prompts_2``, what T5 reads, is ``prompts`` where it is not given.
        """
        if self.pipe.text_encoder is None:
            self._load_text_encoders()
        with quiet():  # the pipeline would print every text that it cuts
            sequence, pooled, _ = self.pipe.encode_prompt(
                prompt=list(prompts), prompt_2=list(prompts_2 or prompts), device=self.device, max_sequence_length=self.max_length
            )
        return TextCond(sequence, pooled)

    def free_text_encoders(self) -> None:
        """Let go of T5 and CLIP (9.1 GiB for FLUX.1); ``encode`` loads them again."""
        self.pipe.text_encoder = self.pipe.text_encoder_2 = None

    def _load_text_encoders(self) -> None:
        from transformers import CLIPTextModel, T5EncoderModel

        clip, t5 = self.directory / "text_encoder", self.directory / "text_encoder_2"
        with quiet():
            self.pipe.text_encoder = CLIPTextModel.from_pretrained(clip, dtype=self.dtype, use_safetensors=True).to(self.device)
            self.pipe.text_encoder_2 = T5EncoderModel.from_pretrained(t5, dtype=self.dtype, use_safetensors=True).to(self.device)

    @property
    def text_encoder(self) -> Any:
        if self.pipe.text_encoder is None:
            self._load_text_encoders()
        return self.pipe.text_encoder

    @property
    def text_encoder_2(self) -> Any:
        if self.pipe.text_encoder_2 is None:
            self._load_text_encoders()
        return self.pipe.text_encoder_2

    @property
    def tokenizer(self) -> Any:
        return self.pipe.tokenizer

    @property
    def tokenizer_2(self) -> Any:
        return self.pipe.tokenizer_2

    # sampling

    def noise(self, seeds: Sequence[int]) -> Tensor:
        """Packed x_T [B, tokens, channels], one CPU generator a seed: what FluxPipeline draws for the same generators."""
        channels = self.transformer.config.in_channels // 4
        side = self._grid * 2
        drawn = [torch.randn((1, channels, side, side), generator=torch.Generator().manual_seed(s), dtype=self.dtype) for s in seeds]
        packed: Tensor = self.pipe._pack_latents(torch.cat(drawn), len(drawn), channels, side, side)
        return packed.to(self.device)

    def sigmas(self, steps: int) -> Tensor:
        """Noise levels [steps + 1] from 1 to 0, as the pipeline's scheduler sets them for this picture size."""
        scheduler = self.pipe.scheduler
        options: dict[str, Any] = {"sigmas": np.linspace(1.0, 1 / steps, steps)}
        if scheduler.config.use_dynamic_shifting:
            c = scheduler.config
            options["mu"] = calculate_shift(self._grid**2, c.base_image_seq_len, c.max_image_seq_len, c.base_shift, c.max_shift)
        scheduler.set_timesteps(device=self.device, **options)
        sigmas: Tensor = scheduler.sigmas
        return sigmas.to(self.device)

    def velocity(self, x: Tensor, sigma: Tensor, cond: TextCond) -> Tensor:
        """The model's velocity (noise - data) [B, tokens, channels] at noise level ``sigma`` (a scalar)."""
        guidance = None if self.guidance is None else x.new_full((len(x),), self.guidance)
        out: Tensor = self.transformer(
            hidden_states=x, timestep=sigma.expand(len(x)).to(x.dtype), guidance=guidance, pooled_projections=cond.pooled,
            encoder_hidden_states=cond.sequence, img_ids=self._ids, txt_ids=x.new_zeros(cond.sequence.shape[1], 3), return_dict=False,
        )[0]  # fmt: skip
        return out

    @torch.no_grad()
    def sample(self, noise: Tensor, cond: TextCond, *, steps: int) -> Tensor:
        """Euler steps from ``noise`` to packed latents [B, tokens, channels]."""
        x, sigmas = noise, self.sigmas(steps)
        for now, after in pairwise(sigmas):
            x = x + (after - now) * self.velocity(x, now, cond)
        return x

    @torch.no_grad()
    def decode(self, latents: Tensor) -> NDArray[np.uint8]:
        """Pictures [B, size, size, 3], 0..255; a few at a time, since the decoder takes more memory than all latents."""
        few = max(1, _DECODED // self.size**2)
        return np.concatenate([self._decode(part) for part in torch.split(latents, few)])

    def _decode(self, latents: Tensor) -> NDArray[np.uint8]:
        unpacked = self.pipe._unpack_latents(latents, self.size, self.size, self.pipe.vae_scale_factor)
        unpacked = unpacked / self.vae.config.scaling_factor + self.vae.config.shift_factor
        pictures = self.vae.decode(unpacked.to(self.vae.dtype), return_dict=False)[0]
        scaled = ((pictures.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        found: NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).cpu().numpy()
        return found

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int, batch: int = 16) -> NDArray[np.uint8]:
        """Pictures [N, size, size, 3] for prompts and noise seeds, pair by pair."""
        return self.draw_with_latents(prompts, seeds, steps=steps, batch=batch)[0]

    def draw_with_latents(
        self, prompts: Sequence[str], seeds: Sequence[int], *, steps: int, batch: int = 16
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """As ``draw``, and what the pictures were decoded from: packed latents [N, tokens, channels]."""
        pictures, latents = [], []
        for start in range(0, len(prompts), batch):
            part = slice(start, start + batch)
            found = self.sample(self.noise(seeds[part]), self.encode(prompts[part]), steps=steps)
            pictures.append(self.decode(found))
            latents.append(found.float().cpu().numpy())
        return np.concatenate(pictures), np.concatenate(latents)

    def sites(self) -> dict[str, Site]:
        """Every site of the transformer by name; see ``declared``."""
        return find_sites(self.transformer)


def picture_size(directory: Path, pipe: FluxPipeline) -> int:
    """Side of the pictures in pixels: ``height`` of the directory's ``generation_config.json`` where there is one, else 512."""
    path = directory / "generation_config.json"
    size = int(json.loads(path.read_text(encoding="utf-8")).get("height", 512)) if path.is_file() else 512
    step = pipe.vae_scale_factor * 2
    if size % step:
        raise ModelError(f"{path}: height is {size}; wanted a multiple of {step}")
    return size
