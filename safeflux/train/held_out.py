"""How good a mask is by the standard it will be held to: detectors, on prompts and noise that training does not use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from safeflux.errors import StageError
from safeflux.models.flux1 import Flux1
from safeflux.models.sites import Site, gated
from safeflux.train.task import TrainingTask
from safeflux.types import Prompt

if TYPE_CHECKING:
    from numpy.typing import NDArray

GENERAL = "what must stay"


@dataclass(frozen=True)
class Line:
    """One rate: over pairs of prompt and noise seed from which the base model draws what it should. ``keep``: the rate has to be high."""

    name: str
    prompts: tuple[Prompt, ...]
    seeds: tuple[int, ...]
    keep: bool

    def effective(self, seen: NDArray[np.bool_]) -> Line:
        """Only the pairs that are ``seen`` [pairs] to show what they should."""
        at = np.flatnonzero(seen)
        return replace(self, prompts=tuple(self.prompts[i] for i in at), seeds=tuple(self.seeds[i] for i in at))


def beside(concept: str) -> str:
    """The name of the line of a concept's prompts that ask for something else as well."""
    return f"{concept} beside others"


def near(concept: str) -> str:
    """The name of the line of a concept's neighbours."""
    return f"neighbours of {concept}"


def groups(task: TrainingTask, retain: Sequence[Prompt]) -> dict[str, list[int]]:
    """Places in ``retain`` of each concept's neighbours (by ``near``) and of all that is general."""
    found: dict[str, list[int]] = {}
    for i, prompt in enumerate(retain):
        owner = next((c for c in task.concepts if prompt.is_near(c)), None)
        found.setdefault(near(owner.name) if owner else GENERAL, []).append(i)
    return found


class HeldOut:
    """``seen`` held-out pictures a line of concepts, ``kept`` a line of what must stay.

    What the base model draws from the same prompts and noise is looked at once, first.
    """

    def __init__(self, model: Flux1, task: TrainingTask, sites: Mapping[str, Site], *, seen: int, kept: int, seed: int, batch: int) -> None:
        if task.shows is None or not task.held_out:
            raise StageError("the training cannot be judged: there is no detector, or there are no held-out prompts")
        self._model, self._task, self._sites, self._batch = model, task, sites, batch
        self.lines = self._planned(seen, kept, seed)
        hits = self._shown(None)
        self.lines = [line.effective(hit) for line, hit in zip(self.lines, hits, strict=True)]
        if dead := [line.name for line in self.lines if not line.prompts and line.name in task.held_out]:
            raise StageError(
                f"the base model draws none of {', '.join(dead)} in {seen} held-out pictures; nothing can be told of its erasure"
            )
        self.lines = [line for line in self.lines if line.prompts]

    def measure(self, gates: Mapping[str, Tensor]) -> dict[str, float]:
        """The rate of each line under ``gates`` by site, all binary."""
        return {line.name: float(np.mean(hits)) for line, hits in zip(self.lines, self._shown(gates), strict=True)}

    def _planned(self, seen: int, kept: int, seed: int) -> list[Line]:
        task = self._task
        wanted: list[tuple[str, Sequence[Prompt], bool]] = []
        for c in task.concepts:
            alone, others = ([p for p in task.held_out[c.name] if bool(p.rest) == two] for two in (False, True))
            wanted += [(c.name, alone, False), (beside(c.name), others, False)]
        for name, places in groups(task, task.held_retain).items():
            wanted.append((name, [task.held_retain[i] for i in places], True))
        lines = []
        for at, (name, prompts, keep) in enumerate((name, prompts, keep) for name, prompts, keep in wanted if prompts):
            n = kept if keep else seen
            spread = [prompts[i * max(len(prompts), n) // n % len(prompts)] for i in range(n)]
            lines.append(Line(name, tuple(spread), tuple(seed + 10_007 * at + i for i in range(n)), keep))
        return lines

    def _shown(self, gates: Mapping[str, Tensor] | None) -> list[NDArray[np.bool_]]:
        """For each line, which of its pictures show what they should."""
        prompts = [p for line in self.lines for p in line.prompts]
        seeds = [s for line in self.lines for s in line.seeds]
        assert self._task.shows is not None
        hits = []
        with gated(self._model.transformer, self._sites, gates or {}):
            for start in range(0, len(prompts), self._batch):
                part = slice(start, start + self._batch)
                cond = self._task.embed([p.text for p in prompts[part]])
                latents = self._model.sample(self._model.noise(seeds[part]), cond, steps=self._task.steps)
                hits.append(self._task.shows(prompts[part], self._model.decode(latents)))
        ends = np.cumsum([len(line.prompts) for line in self.lines])[:-1]
        return list(np.split(np.concatenate(hits), ends))
