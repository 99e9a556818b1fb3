"""Hard-concrete gates (Louizos, Welling and Kingma, ICLR 2018, arXiv 1712.01312) over the units of all sites.

Both the noise and the temperature are annealed (as in continuous sparsification, Savarese, Silva and Maire, NeurIPS 2020,
arXiv 1912.04427), so that sampled gates come near the hard ones that will be kept. Most of them are then exactly 0 or 1, where the
hard-concrete distribution has no gradient: what is wide open or closed would hardly ever hear of the loss. So the gradient goes
straight through (Bengio, Leonard and Courville, 2013, arXiv 1308.3432), with the slope of the sigmoid at the first temperature, and no
logit goes so far that this slope is nothing. Single updates stay noisy: the binary mask is that of the logits' running mean (Polyak
and Juditsky, SIAM J. Control Optim. 1992).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from safeflux.models.sites import Site

_LOW, _HIGH = -0.1, 1.1  # the stretched interval; what falls outside [0, 1] is clamped to exactly 0 or 1
_WARM, _COLD = 0.83, 0.4  # temperatures at the beginning (the paper's) and at the end
_QUIET = 0.25  # the noise that is left in the end
_LEAST, _MOST = -2.0, 3.0  # logits
_SPAN, _LATEST = 4, 0.2  # the running mean is over about so many updates, or the latest fifth of all where that is more


def concrete(logit: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Gates in [0, 1] of ``logit``'s shape, differentiable where they are neither 0 nor 1, for one draw of ``noise``."""
    return (torch.sigmoid((noise + logit) / temperature) * (_HIGH - _LOW) + _LOW).clamp(0, 1)


class Gates:
    """One logit a unit, all in one vector [units of all sites], in the order of the sites.

    ``sample`` gives stochastic gates in [0, 1], ``hard`` the binary ones the mask will have, by the running mean of the logits.
    Gates that ``shut`` names stay closed.
    """

    def __init__(self, sites: Iterable[Site], *, device: torch.device, initial: float = 2.5) -> None:
        self.units = {site.name: site.units for site in sites}
        total = sum(self.units.values())
        self.logits = torch.full((total,), initial, device=device, requires_grad=True)
        self.mean = self.logits.detach().clone()
        self.shut = torch.zeros(total, dtype=torch.bool, device=device)
        self.noise, self.temperature = 1.0, _WARM

    def __len__(self) -> int:
        return len(self.logits)

    def anneal(self, progress: float) -> None:
        """``progress`` of the training, 0 to 1: noise and temperature fall to their ends."""
        self.noise = 1 - (1 - _QUIET) * progress
        self.temperature = _WARM * (_COLD / _WARM) ** progress

    @torch.no_grad()
    def begin(self, which: Tensor, logit: float) -> None:
        """Before any update: let the gates ``which`` (bool [units]) begin at ``logit``."""
        self.logits[which] = logit
        self.mean[which] = logit

    @torch.no_grad()
    def settle(self, updates: int) -> None:
        """After so many ``updates``: bring logits back to where their gates can still change, and go on with their running mean."""
        self.logits.clamp_(_LEAST, _MOST)
        self.mean.lerp_(self.logits, 1 / max(_SPAN, _LATEST * updates))

    def sample(self, generator: torch.Generator) -> Tensor:
        """One draw for a whole rollout [units]: exactly 0 or 1 for most units, with a gradient for all of them."""
        u = torch.rand(len(self), generator=generator, device=generator.device).clamp_(1e-6, 1 - 1e-6).to(self.logits.device)
        noise = self.noise * (u.log() - (-u).log1p())
        slope = torch.sigmoid((noise + self.logits) / _WARM)
        gates = concrete(self.logits, noise, self.temperature).detach() + (slope - slope.detach())
        return gates.masked_fill(self.shut, 0)

    def hard(self) -> Tensor:
        """Binary gates [units]: 1 where the stretched mean gate is at least one half (mean logit above 0)."""
        return ((self.mean > 0) & ~self.shut).to(self.logits.dtype)

    def by_site(self, flat: Tensor) -> dict[str, Tensor]:
        """Numbers over all units [..., units], cut up by site."""
        return dict(zip(self.units, torch.split(flat, list(self.units.values()), dim=-1), strict=True))

    def closing(self, by_site: Mapping[str, Tensor]) -> Tensor:
        """Bool [units], True for the units of which ``by_site`` (bool [units of a site]) says so; other sites have none."""
        none = {name: torch.zeros(units, dtype=torch.bool) for name, units in self.units.items()}
        return torch.cat([gone.to(self.logits.device) for gone in (none | dict(by_site)).values()])

    def expected_closed(self) -> Tensor:
        """Mean probability that a gate is exactly 0: what the L0 term prices, in [0, 1]."""
        shift = self.temperature * math.log(-_LOW / _HIGH)
        return torch.sigmoid((shift - self.logits) / self.noise).mean()
