"""A diffusers directory, as ``FluxPipeline.from_pretrained`` gives it back."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import torch

from safeflux.models.flux1 import Flux1
from safeflux.models.loaded import RELOADED, Loaded, readers


def diffusers(exported: Path, *, root: Path, base: Path | None, device: str, dtype: torch.dtype) -> Loaded:
    """``exported`` is a pipeline of its own, so neither ``root`` nor ``base`` is read."""
    model = Flux1.load(exported, device=device, dtype=dtype)
    return Loaded(model, f"FluxPipeline.from_pretrained, diffusers {version('diffusers')}", RELOADED[dtype], readers(model.transformer))
