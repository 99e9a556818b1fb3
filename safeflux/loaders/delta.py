"""Masks, as whoever has the base gets the model back from them: ``safeflux bake --masks``, then stock diffusers."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path

import torch

from safeflux.delta import apply
from safeflux.errors import ModelError
from safeflux.exporters.delta import FILE
from safeflux.models.flux1 import Flux1
from safeflux.models.loaded import RELOADED, Loaded, readers


def delta(exported: Path, *, root: Path, base: Path | None, device: str, dtype: torch.dtype) -> Loaded:
    """The pipeline that the masks make of ``base``, which has to be here."""
    if base is None:
        raise ModelError(f"{exported / FILE} needs the base it belongs to; name its directory with --base")
    with tempfile.TemporaryDirectory(prefix="safeflux-") as directory:  # what was read of it stays mapped when it is gone
        apply(exported / FILE, base, Path(directory))
        model = Flux1.load(directory, device=device, dtype=dtype)
        model.encode([""])  # both text encoders are read while their files are there
    consumer = f"safeflux bake --masks, FluxPipeline.from_pretrained, diffusers {version('diffusers')}"
    return Loaded(model, consumer, RELOADED[dtype], readers(model.transformer))
