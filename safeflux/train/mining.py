"""Which retained prompts to train on: those that the mask damages most, found out while it is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_MEMORY = 0.5  # share of the old estimate that a new one leaves
_CURIOUS = 0.25  # share of draws that go to all prompts alike


class Mining:
    """An estimate of the damage to each of ``n`` prompts, from the rollouts that training makes anyway."""

    def __init__(self, n: int) -> None:
        self.damage = torch.zeros(n)
        self.seen = torch.zeros(n, dtype=torch.bool)

    def pick(self, n: int, generator: torch.Generator, among: Sequence[int] | None = None) -> list[int]:
        """``n`` prompts of all, or of those ``among`` them, different ones while there are enough: the unseen first, then in proportion
        to their damage."""
        places = torch.arange(len(self.damage)) if among is None else torch.tensor(among)
        picked: list[int] = []
        while len(picked) < n:
            drawn = torch.multinomial(self._chances(places), min(n - len(picked), len(places)), generator=generator)
            picked += places[drawn].tolist()
        return picked

    def _chances(self, places: Tensor) -> Tensor:
        damage, seen = self.damage[places], self.seen[places]
        most = float(damage[seen].max()) if seen.any() and float(damage[seen].max()) > 0 else 1.0
        chances = torch.where(seen, damage, torch.full_like(damage, 10 * most))
        return (1 - _CURIOUS) * chances / chances.sum().clamp(min=1e-12) + _CURIOUS / len(chances)

    def learn(self, prompts: Sequence[int], damage: Tensor) -> None:
        """``damage`` [n] was measured on ``prompts`` [n]."""
        for i, value in zip(prompts, damage.tolist(), strict=True):
            self.damage[i] = _MEMORY * self.damage[i] + (1 - _MEMORY) * value if self.seen[i] else value
            self.seen[i] = True

    def state(self) -> dict[str, Tensor]:
        return {"damage": self.damage.clone(), "seen": self.seen.to(torch.uint8)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.damage, self.seen = state["damage"].clone(), state["seen"].bool()
