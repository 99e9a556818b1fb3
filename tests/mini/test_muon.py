from __future__ import annotations

import pytest
import torch

from safeflux.mini.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(24, 24), (16, 48), (48, 16)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 7
    found = torch.linalg.svdvals(orthogonal(matrix))
    assert found.min() > 0.4
    assert found.max() < 1.3
    assert torch.linalg.svdvals(matrix).max() > 3 * torch.linalg.svdvals(matrix).min()


def test_it_agrees_with_pytorchs_own_up_to_bfloat16() -> None:
    start = torch.randn(32, 64, generator=torch.Generator().manual_seed(1))
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    tools = (Muon([ours], lr=0.02, decay=0.01), torch.optim.Muon([theirs], lr=0.02, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"))
    for step in range(5):
        for parameter, tool in zip((ours, theirs), tools, strict=True):
            parameter.grad = torch.randn(32, 64, generator=torch.Generator().manual_seed(10 + step))
            tool.step()
    moved, apart = (theirs - start).norm(), (ours - theirs).norm()
    assert apart < 0.03 * moved
