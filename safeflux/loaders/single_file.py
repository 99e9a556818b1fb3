"""One file of weights, as ``FluxTransformer2DModel.from_single_file`` gives it back; all else is the release's."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn

from safeflux.errors import ModelError
from safeflux.models.flux1 import Flux1
from safeflux.models.loaded import RELOADED, Loaded, readers
from safeflux.models.quiet import quiet

ROUNDED = {"fp8": 0.25, "gguf": 0.05}  # of the largest latent: what rounding every weight may move, after all steps


def single_file(exported: Path, *, root: Path, base: Path | None, device: str, dtype: torch.dtype) -> Loaded:
    """As it was written: the same numbers, under whichever names."""
    transformer = _transformer(exported, ".safetensors", root, dtype)
    return Loaded(_pipeline(root, transformer, device, dtype), _consumer(), RELOADED[dtype], readers(transformer))


def fp8(exported: Path, *, root: Path, base: Path | None, device: str, dtype: torch.dtype) -> Loaded:
    """Cast up to ``dtype`` when it is read."""
    transformer = _transformer(exported, ".safetensors", root, dtype)
    return Loaded(_pipeline(root, transformer, device, dtype), _consumer(), ROUNDED["fp8"], readers(transformer), exact=False)


def gguf(exported: Path, *, root: Path, base: Path | None, device: str, dtype: torch.dtype) -> Loaded:
    """Kept in blocks, each layer expanded as it computes in ``dtype``."""
    from diffusers import GGUFQuantizationConfig

    transformer = _transformer(exported, ".gguf", root, dtype, quantization_config=GGUFQuantizationConfig(compute_dtype=dtype))
    consumer = f"{_consumer()}, gguf {version('gguf')}"
    return Loaded(_pipeline(root, transformer, device, dtype), consumer, ROUNDED["gguf"], _expanded(transformer), exact=False)


def _transformer(exported: Path, suffix: str, root: Path, dtype: torch.dtype, **options: Any) -> FluxTransformer2DModel:
    files = sorted(exported.glob(f"*{suffix}"))
    if len(files) != 1:
        raise ModelError(f"{exported} holds {len(files)} files {suffix}; wanted one")
    with quiet():
        return FluxTransformer2DModel.from_single_file(str(files[0]), config=str(root), subfolder="transformer", dtype=dtype, **options)


def _pipeline(root: Path, transformer: FluxTransformer2DModel, device: str, dtype: torch.dtype) -> Flux1:
    return Flux1.load(root, device=device, dtype=dtype, transformer=transformer)


def _consumer() -> str:
    return f"FluxTransformer2DModel.from_single_file, diffusers {version('diffusers')}"


def _expanded(module: nn.Module) -> dict[str, Any]:
    """How to read each tensor as the numbers that its blocks stand for."""
    from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

    def read(tensor: Tensor) -> Tensor:
        found: Tensor = dequantize_gguf_tensor(tensor) if hasattr(tensor, "quant_type") else tensor
        return found.as_subclass(Tensor)

    parameters = dict(module.named_parameters()) | dict(module.named_buffers())
    return {name: lambda tensor=tensor: read(tensor) for name, tensor in parameters.items()}
