"""Goals and a state for tests of how a training is judged."""

from __future__ import annotations

import torch
from training import Script, small_task

from safeflux.models.flux1 import Flux1
from safeflux.train.adversary import Adversary
from safeflux.train.gates import Gates
from safeflux.train.goals import Goals
from safeflux.train.mining import Mining
from safeflux.train.pgd import Hunt
from safeflux.train.state import State

HUNT = Hunt(0.1, iterations=1, step=0.35, restarts=1, recompute=False)


class Trial:
    """Goals, and a state whose mask is whatever a test wants it to be. ``seen``: whether the detector sees concepts; ``lost``: no cross."""

    def __init__(self, model: Flux1, *, budget: float, attacked: bool = False) -> None:
        self.seen = self.lost = False
        task = small_task(
            model, shows=Script(model, lambda prompt: self.seen if prompt.concept else prompt.expects != ("cross",) or not self.lost)
        )
        self.goals = Goals(model, task, model.sites(), budget=budget, batch=8, hunt=HUNT if attacked else None)
        gates = Gates(model.sites().values(), device=model.device)
        tool = torch.optim.SGD([gates.logits], lr=1.0)
        more = (self.goals.controller(None), Mining(len(task.retain)), Adversary(0.1, model, task, model.sites()))
        self.state = State(gates, tool, *more, gates.hard())

    def look(self, closed: int, *, last: bool = False) -> int:
        """With so many units closed; how many the best mask so far has closed."""
        self.state.gates.begin(torch.ones(len(self.state.gates), dtype=torch.bool), 2.5)
        self.state.gates.begin(torch.arange(len(self.state.gates)) < closed, -1.0)
        self.goals.look(self.state, {}, 0, last=last)
        return int((self.state.best == 0).sum())
