"""An export as its public loader gives it back, to be compared and attacked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from safeflux.models.flux1 import Flux1

# Of the largest latent: how far the same weights may draw apart in two processes, whose kernels may sum in another order.
RELOADED = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 2e-2}


@dataclass(frozen=True)
class Loaded:
    """``model`` draws with what was exported; ``consumer`` says what loaded it.

    ``weights``: how to read each tensor of its transformer, by its name in the state dict and as plain numbers (quantised ones expanded);
    None where the format has no such tensors. ``exact``: whether they have to be the masked model's, bit for bit; in any case, what is zero
    there has to be zero. ``tolerance``: how far final latents may be from the masked model's, of its largest.
    """

    model: Flux1
    consumer: str
    tolerance: float
    weights: Mapping[str, Callable[[], Tensor]] | None
    exact: bool = True


def readers(module: nn.Module) -> dict[str, Callable[[], Tensor]]:
    """How to read each tensor of a module's state dict."""
    return {name: partial(_same, tensor) for name, tensor in module.state_dict().items()}


def _same(tensor: Tensor) -> Tensor:
    return tensor
