"""Hard-concrete gates (Louizos, Welling and Kingma, ICLR 2018, arXiv 1712.01312) over the units of all sites."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from safeflux.models.sites import Site

_LOW, _HIGH = -0.1, 1.1  # the stretched interval; what falls outside [0, 1] is clamped to exactly 0 or 1


class Gates:
    """One logit a unit. ``sample`` gives stochastic gates in [0, 1], ``hard`` the binary ones the mask will have."""

    def __init__(self, sites: Iterable[Site], *, initial: float, temperature: float, device: torch.device) -> None:
        self.temperature = temperature
        self.logits: dict[str, Tensor] = {
            site.name: torch.full((site.units,), initial, device=device, requires_grad=True) for site in sites
        }

    def parameters(self) -> list[Tensor]:
        return list(self.logits.values())

    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        """One draw for a whole rollout: differentiable, exactly 0 or 1 for most units."""
        gates = {}
        for name, logit in self.logits.items():
            u = torch.rand(logit.shape, generator=generator, device=generator.device).clamp_(1e-6, 1 - 1e-6).to(logit.device)
            soft = torch.sigmoid((u.log() - (-u).log1p() + logit) / self.temperature)
            gates[name] = (soft * (_HIGH - _LOW) + _LOW).clamp(0, 1)
        return gates

    def hard(self) -> dict[str, Tensor]:
        """Binary gates: 1 where the stretched mean gate is at least one half (logit above 0)."""
        return {name: (logit.detach() > 0).to(logit.dtype) for name, logit in self.logits.items()}

    def keep(self) -> dict[str, Tensor]:
        """The mask, as booleans on the CPU."""
        return {name: gate.bool().cpu() for name, gate in self.hard().items()}

    def expected_open(self) -> Tensor:
        """Mean probability that a gate is not exactly 0: the L0 term, in [0, 1]."""
        shift = self.temperature * math.log(-_LOW / _HIGH)
        return torch.cat([torch.sigmoid(logit - shift) for logit in self.logits.values()]).mean()
