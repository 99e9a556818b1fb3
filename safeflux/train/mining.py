"""Which retained prompts to train on: those that the mask damages most, found out while it is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from safeflux.models.flux1 import Flux1
from safeflux.types import Prompt, Shows

_MEMORY = 0.5  # share of the old estimate that a new one leaves
_CURIOUS = 0.25  # share of draws that go to all prompts alike
_URGENT = 20.0  # by so many times more often a prompt is drawn whose pictures no longer show what they should


class Mining:
    """Estimates for each of ``n`` prompts, from the rollouts that training makes anyway: of the damage, which is how far its picture moves,
    and of how often that no longer shows what it should.

    The one does not tell the other: most pictures move without losing anything, and with some prompts a small move takes the thing away.
    """

    def __init__(self, n: int) -> None:
        self.damage = torch.zeros(n)
        self.lost = torch.zeros(n)
        self.seen = torch.zeros(n, dtype=torch.bool)

    def pick(self, n: int, generator: torch.Generator, among: Sequence[int] | None = None) -> list[int]:
        """``n`` prompts of all, or of those ``among`` them, different ones while there are enough: the unseen first, then in proportion
        to their damage, and those that are lost far more often."""
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
        chances = (1 - _CURIOUS) * chances / chances.sum().clamp(min=1e-12) + _CURIOUS / len(chances)
        return chances * (1 + _URGENT * self.lost[places])

    def learn(self, prompts: Sequence[int], damage: Tensor, lost: Tensor) -> None:
        """``damage`` [n] was measured on ``prompts`` [n], and which of them have ``lost`` [n] what they should show."""
        for i, value, gone in zip(prompts, damage.tolist(), lost.tolist(), strict=True):
            self.damage[i] = _MEMORY * self.damage[i] + (1 - _MEMORY) * value if self.seen[i] else value
            self.lost[i] = _MEMORY * self.lost[i] + (1 - _MEMORY) * gone
            self.seen[i] = True

    def state(self) -> dict[str, Tensor]:
        return {"damage": self.damage.clone(), "lost": self.lost.clone(), "seen": self.seen.to(torch.uint8)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.damage, self.lost, self.seen = state["damage"].clone(), state["lost"].clone(), state["seen"].bool()


def lost(model: Flux1, shows: Shows, prompts: Sequence[Prompt], drawn: Tensor, base: Tensor) -> Tensor:
    """1 for each of ``prompts`` [n] whose final latents ``drawn`` do not show what those of the ``base`` model do, as they should; else 0.

    Both are [n, tokens, channels]; of the base model's only those are decoded of which it has to be known.
    """
    found = torch.zeros(len(prompts))
    gone = (~torch.from_numpy(shows(prompts, model.decode(drawn)))).nonzero().flatten().tolist()
    if gone:
        found[gone] = torch.from_numpy(shows([prompts[i] for i in gone], model.decode(base[gone]))).float()
    return found
