"""The training loop that the autoencoder's halves, the detectors and the embedder share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def descend(
    module: nn.Module, objective: Callable[[], Tensor], *, steps: int, lr: float, decay: float, beta: float = 0.999,
    tick: Callable[[int, float], None],
) -> None:  # fmt: skip
    """``steps`` of AdamW on ``objective`` with one cycle of the learning rate, its peak ``lr``, and gradients clipped at norm 1."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=lr, betas=(0.9, beta), weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        loss = objective()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        tick(step, loss.item())
