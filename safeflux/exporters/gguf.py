"""The transformer as a GGUF file, its linear layers in blocks of 32 eight-bit integers with one scale each (Q8_0)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from safeflux.errors import StageError
from safeflux.models.flux1_original import named
from safeflux.models.tensors import Stored, stored
from safeflux.types import Progress

FILE = "model-Q8_0.gguf"
BLOCK = 32


def gguf(
    baked: Path, out: Path, *, base: Path, progress: Progress | None = None, keys: Literal["original", "diffusers"] = "original"
) -> list[Path]:
    """As ``single-file``, for readers of GGUF (diffusers, ComfyUI-GGUF, stable-diffusion.cpp). Weights of linear layers are Q8_0; where
    a row is no multiple of 32 long, and for biases and norms, 32-bit floats. Zeros stay zero.

    Needs the package gguf (``pip install "safeflux[gguf]"``). Raises StageError where ``single-file`` does, and without that package.
    """
    try:
        from gguf import GGMLQuantizationType as Kind
        from gguf import GGUFWriter, LlamaFileType, quants
    except ImportError as error:
        raise StageError(f'GGUF files are written with the package gguf: {error}; pip install "safeflux[gguf]"') from error
    weights = named(stored(baked / "transformer"), keys)
    writer = GGUFWriter(out / FILE, "flux")
    writer.add_quantization_version(2)
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    kinds = {name: Kind.Q8_0 if _fits(one) else Kind.F32 for name, one in weights.items()}
    for name, one in weights.items():
        shape = quants.quant_shape_to_byte_shape(one.shape, kinds[name]) if _fits(one) else one.shape
        kind = np.dtype(np.uint8 if _fits(one) else np.float32)
        writer.add_tensor_info(name, shape, kind, int(np.prod(shape)) * kind.itemsize, kinds[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for done, (name, one) in enumerate(weights.items()):
        if progress:
            progress(FILE, done, len(weights))
        writer.write_tensor_data(quants.quantize(one.read().to(torch.float32).numpy(), kinds[name]))
    writer.close()
    return [out / FILE]


def _fits(one: Stored) -> bool:
    return len(one.shape) == 2 and one.shape[1] % BLOCK == 0
