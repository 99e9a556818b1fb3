"""Load a release, look at its weights, and write others over them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxPipeline
from safetensors.torch import load_file, save_file

import safeflux


def copied(signed: Path, place: Path) -> Path:
    """A copy to write to, with the keys beside it."""
    return Path(shutil.copytree(signed.parent, place / "all")) / signed.name


def load(release: Path, **options: Any) -> FluxPipeline:
    return safeflux.load(release, trust=release.parent / "publisher.pub", **options)


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def zero(file: Path) -> None:
    """Write other weights over ``file``, in place."""
    data = file.read_bytes()
    save_file({name: torch.zeros_like(value) for name, value in load_file(file).items()}, file.with_name("zero"), {"format": "pt"})
    zeros = file.with_name("zero").read_bytes()
    file.with_name("zero").unlink()
    assert len(zeros) == len(data)
    assert zeros != data
    with file.open("r+b") as stream:
        stream.write(zeros)
