"""Counts what a model is asked: the unit is one picture through one denoising step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from diffusers import FluxTransformer2DModel
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook


@dataclass
class Meter:
    """``evaluations`` so far; a backward pass counts as one more, since with frozen weights it costs what a forward pass does."""

    evaluations: int = 0


@contextmanager
def counting() -> Iterator[Meter]:
    """Counts the evaluations of every FLUX transformer within the context, whoever asks for them."""
    meter = Meter()

    def seen(batch: Tensor) -> None:
        meter.evaluations += len(batch)

    def forward(module: nn.Module, _args: object, out: tuple[Tensor, ...]) -> None:
        if isinstance(module, FluxTransformer2DModel):
            seen(out[0])
            if out[0].requires_grad:
                out[0].register_hook(seen)  # type: ignore[no-untyped-call]

    handle = register_module_forward_hook(forward)
    try:
        yield meter
    finally:
        handle.remove()
