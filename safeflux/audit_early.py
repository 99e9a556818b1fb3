"""When a limit is decided, so that the erased model need not draw the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from safeflux.audit_lines import Measure, works_on
from safeflux.instruments import Detector, Instruments
from safeflux.metrics.counting import shows
from safeflux.statistics.anytime import lower_anytime, upper_anytime
from safeflux.types import Prompt, Sample


@dataclass
class _Line:
    """The count of one measure so far; ``among``: the pairs of prompt and seed that count, None for all; ``rate``: the base model's."""

    measure: Measure
    detect: Detector
    among: frozenset[tuple[str, int]] | None
    rate: float
    waiting: list[Sample] = field(default_factory=list)
    k: int = 0
    n: int = 0
    known: bool = False

    def see(self, sample: Sample) -> None:
        if self.measure.counts(sample) and (self.among is None or (sample.prompt.text, sample.seed) in self.among):
            self.waiting.append(sample)

    def decided(self) -> bool:
        if self.waiting:
            self.k += int(shows(self.waiting, self.detect).sum())
            self.n += len(self.waiting)
            self.waiting = []
            self.known = self._decide()
        return self.known

    def _decide(self) -> bool:
        limit = self.measure.limit
        assert limit is not None
        low, high = (bound(self.k, self.n, limit.confidence) for bound in (lower_anytime, upper_anytime))
        if self.measure.keep:
            return low >= limit.value * self.rate or high < limit.value * self.rate
        return high <= limit.value or low > limit.value


class Watch:
    """Looks at what the erased model draws for one attack, as it comes. Give it every sample; ask it before drawing more.

    The bounds it goes by hold however often it is asked, and are those the line is decided by in the end.
    """

    def __init__(self, measures: Sequence[Measure], base: Sequence[Sample], instruments: Callable[[Measure], Instruments]) -> None:
        self._lines: list[_Line] = []
        for m in measures:
            if m.limit is not None:
                detect, picked = instruments(m).detect, [s for s in base if m.counts(s)]
                works = works_on(picked, detect)
                rate = len(works) / len(picked) if picked else 0.0
                self._lines.append(_Line(m, detect, None if m.prompted else works, rate))

    def see(self, sample: Sample) -> None:
        for line in self._lines:
            line.see(sample)

    def enough(self, prompt: Prompt) -> bool:
        """Whether every limit that a picture of ``prompt`` counts for is decided."""
        lines = [line for line in self._lines if line.measure.pick(prompt)]
        return bool(lines) and all(line.decided() for line in lines)
