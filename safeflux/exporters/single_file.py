"""The transformer as one file, in the layout it was published in: for ComfyUI and Forge (models/diffusion_models), and diffusers' own
``from_single_file``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from safeflux.models import comfyui
from safeflux.models.flux1_original import named
from safeflux.models.tensors import header, stored, stream_tensors
from safeflux.types import Progress

FILE = "model.safetensors"


def single_file(
    baked: Path, out: Path, *, base: Path, progress: Progress | None = None, keys: Literal["original", "diffusers"] = "original"
) -> list[Path]:
    """Write the transformer of ``baked``, number by number, to one safetensors file; text encoders and VAE are not in it.

    ``keys``: under their original names (``double_blocks.0...``), or under diffusers' (``transformer_blocks.0...``), which diffusers loads
    at any width, and no other tool is promised to. Raises StageError where no reader could load it (see ``models/flux1_original.py``).
    """
    stream_tensors(named(stored(baked / "transformer"), keys), out / FILE, {"format": "pt"}, progress)
    if keys == "original":
        comfyui.detect(header(out / FILE))
    return [out / FILE]
