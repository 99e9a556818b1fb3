"""The transformer as one file of eight-bit floats (e4m3fn), which tools cast up as they compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from safeflux.errors import StageError
from safeflux.models.flux1_original import named
from safeflux.models.tensors import Stored, stored, stream_tensors
from safeflux.types import Progress

FILE = "model-fp8-e4m3fn.safetensors"
LARGEST = 448.0


def fp8(
    baked: Path, out: Path, *, base: Path, progress: Progress | None = None, keys: Literal["original", "diffusers"] = "original"
) -> list[Path]:
    """As ``single-file``, with the weights of linear layers rounded to the nearest of e4m3fn (arXiv 2209.05433): 3 bits behind the point,
    at most 448. Biases and norms stay as they are; zeros stay zero.

    Raises StageError for a weight beyond 448, which would become not a number, and where ``single-file`` does.
    """
    stream_tensors(_small(named(stored(baked / "transformer"), keys)), out / FILE, {"format": "pt"}, progress)
    return [out / FILE]


def _small(weights: Mapping[str, Stored]) -> dict[str, Stored]:
    small = torch.float8_e4m3fn
    return {n: replace(one, dtype=small, read=partial(_rounded, n, one)) if len(one.shape) == 2 else one for n, one in weights.items()}


def _rounded(name: str, one: Stored) -> Tensor:
    tensor = one.read()
    if (largest := float(tensor.abs().max())) > LARGEST:
        raise StageError(f"{name} holds {largest:.4g}, and e4m3fn ends at {LARGEST:.0f}; export single-file or gguf instead")
    return tensor.to(torch.float8_e4m3fn)
