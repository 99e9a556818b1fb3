"""Low-rank adapters on a model that is not changed by them (Hu et al., ICLR 2022, arXiv 2106.09685)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def adapted(layers: Mapping[str, nn.Module], rank: int, seed: int) -> Iterator[list[Tensor]]:
    """Linear ``layers`` with x -> W x + up (down x) while the context lasts; gives the float32 factors to train, two a layer.

    ``up`` starts at 0, so nothing changes until it is trained.
    """
    drawn, factors, handles = torch.Generator().manual_seed(seed), list[Tensor](), []
    try:
        for layer in layers.values():
            weight = layer.get_parameter("weight")
            down = (torch.randn(rank, weight.shape[1], generator=drawn) / weight.shape[1] ** 0.5).to(weight.device).requires_grad_()
            up = torch.zeros(weight.shape[0], rank, device=weight.device, requires_grad=True)
            factors += [down, up]
            handles.append(layer.register_forward_hook(_adding(down, up)))
        yield factors
    finally:
        for handle in handles:
            handle.remove()


def _adding(down: Tensor, up: Tensor):  # type: ignore[no-untyped-def]
    def hook(_module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
        return out + ((inputs[0].float() @ down.T) @ up.T).to(out.dtype)

    return hook
