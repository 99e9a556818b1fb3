"""Everything of a mask's training that changes, so that a killed one goes on where it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from safeflux.train.adversary import Adversary
from safeflux.train.checkpoints import Checkpoints
from safeflux.train.controller import Controller
from safeflux.train.gates import Gates
from safeflux.train.mining import Mining

_PLAIN = ("shortfall", "exposed", "calm", "held", "waited", "met", "journal")  # fields that JSON can hold


@dataclass
class State:
    """``best``: the hard gates [units] that broke the limits least, ``shortfall`` by how much, ``exposed``: how far attacks went beyond
    theirs then; ``journal``: a row for each look at them.

    ``calm``: how many looks in a row found every limit kept; ``held``: whether ``best`` keeps them all, for sure; ``waited``: how many
    looks since then have not found a better mask that does; ``met``: whether training is over.
    """

    gates: Gates
    tool: torch.optim.Optimizer
    controller: Controller
    mining: Mining
    adversary: Adversary
    best: Tensor
    shortfall: float = float("inf")
    exposed: float = float("inf")
    calm: int = 0
    held: bool = False
    waited: int = 0
    met: bool = False
    journal: list[dict[str, Any]] = field(default_factory=list)

    def save(self, kept: Checkpoints, done: int) -> None:
        more = {"shut": self.gates.shut.to(torch.uint8), "mean": self.gates.mean, "best": self.best}
        more |= {f"mining.{name}": tensor for name, tensor in self.mining.state().items()}
        attacks, told = self.adversary.state()
        more |= {f"adversary.{name}": tensor for name, tensor in attacks.items()}
        rest = {name: getattr(self, name) for name in _PLAIN}
        kept.save(done, more, rest | {"controller": self.controller.state(), "adversary": told})

    def resume(self, kept: Checkpoints) -> int:
        """How many updates the state stands for; 0 where nothing was kept."""
        done, more, data = kept.resume()
        if done:
            device = self.gates.logits.device
            self.gates.shut, self.best = more["shut"].bool().to(device), more["best"].to(device)
            self.gates.mean = more["mean"].to(device)
            self.mining.restore(_below(more, "mining."))
            self.adversary.restore({name: tensor.to(device) for name, tensor in _below(more, "adversary.").items()}, data["adversary"])
            self.controller.restore(data["controller"])
            for name in _PLAIN:
                setattr(self, name, data[name])
        return done


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
