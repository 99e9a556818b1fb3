"""Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): momentum whose singular values are all made one.

PyTorch has it too, but orthogonalises in bfloat16 whatever it is given; a processor without bfloat16 units takes eight times
as long for that as for float32, and it is most of an update of a model this small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

_A, _B, _C = 3.4445, -4.7750, 2.0315  # the quintic's coefficients, the author's
_STEPS = 5


class Muon(torch.optim.Optimizer):
    """For matrices only; an update has the root mean square that AdamW's has (Liu et al. 2025, arXiv 2502.16982)."""

    def __init__(self, params: Iterable[Tensor], *, lr: float, decay: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Nesterov momentum, orthogonalised, with decoupled weight decay."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                average = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonal(parameter.grad.lerp(average, group["momentum"]))
                parameter.mul_(1 - group["lr"] * group["decay"])
                parameter.add_(update, alpha=-group["lr"] * 0.2 * max(parameter.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """``matrix`` with its singular values brought to about one, 0.7 to 1.2, by a Newton-Schulz iteration."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.T if matrix.shape[0] > matrix.shape[1] else x
