"""How good a mask is by the standard it will be held to: detectors, on prompts and noise that training does not use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from safeflux.errors import StageError
from safeflux.models.flux1 import Flux1
from safeflux.models.sites import Site, gated
from safeflux.train.pgd import Hunt, search
from safeflux.train.task import TrainingTask
from safeflux.types import Prompt

GENERAL = "what must stay"


@dataclass(frozen=True)
class Line:
    """One rate: over pairs of prompt and noise seed from which the base model draws what it should. ``keep``: the rate has to be high.

    ``others``: how many pairs it drew wrongly. Where it draws by a hair, any change loses some pictures and gains others; the audit counts
    both, and here only what is lost is drawn.
    """

    name: str
    prompts: tuple[Prompt, ...]
    seeds: tuple[int, ...]
    keep: bool
    others: int = 0

    def rate(self, wrong: int) -> float:
        """If so many pictures are not as they should be."""
        return (len(self.prompts) - wrong if self.keep else wrong) / len(self.prompts)

    def breaks(self, wrong: int, bound: float) -> bool:
        """Whether that rate is beyond ``bound``."""
        return self.rate(wrong) < bound if self.keep else self.rate(wrong) > bound

    def let_off(self) -> float:
        """How much of the rate may be missing by chance: one picture, and half as many as the base model draws wrongly."""
        return (1 + self.others // 2) / len(self.prompts)

    def without(self, dropped: Container[int]) -> Line:
        """Only the pairs whose places are not ``dropped``."""
        at = [i for i in range(len(self.prompts)) if i not in dropped]
        fewer = len(self.prompts) - len(at)
        return replace(self, prompts=tuple(self.prompts[i] for i in at), seeds=tuple(self.seeds[i] for i in at), others=fewer)


def beside(concept: str) -> str:
    """The name of the line of a concept's prompts that ask for something else as well."""
    return f"{concept} beside others"


def near(concept: str) -> str:
    """The name of the line of a concept's neighbours."""
    return f"neighbours of {concept}"


def attacked(concept: str) -> str:
    """The name of the line of a concept's prompts under attack."""
    return f"{concept} under attack"


def groups(task: TrainingTask, retain: Sequence[Prompt]) -> dict[str, list[int]]:
    """Places in ``retain`` of each concept's neighbours (by ``near``) and of all that is general."""
    found: dict[str, list[int]] = {}
    for i, prompt in enumerate(retain):
        owner = next((c for c in task.concepts if prompt.is_near(c)), None)
        found.setdefault(near(owner.name) if owner else GENERAL, []).append(i)
    return found


def planned(task: TrainingTask, *, seen: int, kept: int, seed: int) -> list[Line]:
    """``seen`` pictures a line of concepts, alone and beside other things, and ``kept`` a line of what must stay; in general twice as many,
    for that is most of it, and one line."""
    wanted: list[tuple[str, Sequence[Prompt], bool, int]] = []
    for c in task.concepts:
        alone, others = ([p for p in task.held_out.get(c.name, ()) if bool(p.rest) == two] for two in (False, True))
        wanted += [(c.name, alone, False, seen), (beside(c.name), others, False, seen)]
    for name, places in groups(task, task.held_retain).items():
        wanted.append((name, [task.held_retain[i] for i in places], True, 2 * kept if name == GENERAL else kept))
    return [_line(*one, seed + 10_007 * at) for at, one in enumerate(one for one in wanted if one[1])]


def tried(task: TrainingTask, *, each: int, seed: int) -> list[Line]:
    """``each`` prompts of every concept alone, to attack."""
    alone = {attacked(c.name): [p for p in task.held_out.get(c.name, ()) if not p.rest] for c in task.concepts}
    return [_line(name, some, False, each, seed + 10_007 * at) for at, (name, some) in enumerate(alone.items()) if some]


def _line(name: str, prompts: Sequence[Prompt], keep: bool, n: int, seed: int) -> Line:
    spread = [prompts[i * max(len(prompts), n) // n % len(prompts)] for i in range(n)]
    return Line(name, tuple(spread), tuple(seed + i for i in range(n)), keep)


class HeldOut:
    """The rates of ``lines``; with a ``hunt``, of prompts whose embeddings were moved by it against the very gates that are measured.

    What the base model draws from the same prompts and noise is looked at once, first.
    """

    def __init__(
        self, model: Flux1, task: TrainingTask, sites: Mapping[str, Site], lines: Sequence[Line], *, batch: int, hunt: Hunt | None = None
    ) -> None:
        if task.shows is None or not task.held_out:
            raise StageError("the training cannot be judged: there is no detector, or there are no held-out prompts")
        self._model, self._task, self._sites, self._batch, self._hunt = model, task, sites, batch, hunt
        useless = {(line.name, i) for line, i, shown in self._looked(lines, {}) if not shown}
        self.lines = [line.without({i for name, i in useless if name == line.name}) for line in lines]
        if dead := [line for line in self.lines if not line.prompts and line.name in task.held_out]:
            seen = next(len(line.prompts) for line in lines if line.name == dead[0].name)
            raise StageError(
                f"the base model draws none of {', '.join(line.name for line in dead)} in {seen} held-out pictures; "
                "nothing can be told of its erasure"
            )
        self.lines = [line for line in self.lines if line.prompts]

    def measure(self, gates: Mapping[str, Tensor]) -> dict[str, float]:
        """The rate of each line under ``gates`` by site, all binary."""
        found = self.within(gates, {})
        assert found is not None  # nothing bounds them
        return found

    def within(self, gates: Mapping[str, Tensor], bounds: Mapping[str, float]) -> dict[str, float] | None:
        """The same where each rate is within its bound, or has none: at least that where it has to be high, else at most. None otherwise,
        and no more is drawn than it takes to tell.
        """
        wrong = Counter(dict.fromkeys((line.name for line in self.lines), 0))
        for line, _, shown in self._looked(self.lines, gates):
            wrong[line.name] += shown != line.keep
            if line.name in bounds and line.breaks(wrong[line.name], bounds[line.name]):
                return None
        return {line.name: line.rate(wrong[line.name]) for line in self.lines}

    def _looked(self, lines: Sequence[Line], gates: Mapping[str, Tensor]) -> Iterator[tuple[Line, int, bool]]:
        """Line and place of each pair, and whether its picture shows what it should; all lines move on at the same pace."""
        assert self._task.shows is not None
        pairs = sorted(((i / len(line.prompts), at, i) for at, line in enumerate(lines) for i in range(len(line.prompts))))
        for start in range(0, len(pairs), self._batch):
            part = [(lines[at], i) for _, at, i in pairs[start : start + self._batch]]
            prompts = [line.prompts[i] for line, i in part]
            seeds, cond = [line.seeds[i] for line, i in part], self._task.embed([p.text for p in prompts])
            noise, steps = self._model.noise(seeds), self._task.steps
            target = self._model.sample(noise, cond, steps=steps) if self._hunt and gates else None
            with gated(self._model.transformer, self._sites, gates):
                if self._hunt is None or target is None:
                    latents = self._model.sample(noise, cond, steps=steps)
                else:
                    latents = search(self._model, noise, cond, target, seeds, steps, self._hunt).latents
                shown = self._task.shows(prompts, self._model.decode(latents))
            yield from ((line, i, bool(hit)) for (line, i), hit in zip(part, shown, strict=True))
