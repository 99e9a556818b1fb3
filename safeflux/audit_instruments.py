"""What an audit measures with: a detector for everything it must tell, an embedder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from safeflux import registry
from safeflux.audit_labelled import labelled
from safeflux.audit_lines import Measure, measures
from safeflux.audit_photographs import photographs
from safeflux.errors import StageError
from safeflux.instruments import Detector, Embedder, Instruments, Photographs
from safeflux.policy import Choice, Policy
from safeflux.policy.attached import refuse
from safeflux.statistics.detector_error import Labelled
from safeflux.types import Prompt, Shows

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Remembering:
    """An ``Embedder`` that puts the same set of pictures through another one only once: several metrics look at the same ones."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, NDArray[np.float32]] = {}
        self.name, self.texts, self.layers = embedder.name, embedder.texts, embedder.layers

    def images(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        key = hashlib.sha256(images.tobytes()).hexdigest()
        if key not in self._known:
            self._known[key] = self._embedder.images(images)
        return self._known[key]


@dataclass(frozen=True)
class Bench:
    """The detector of each set of labels to tell, where the embedder comes from, and photographs if there are any."""

    detectors: Mapping[tuple[str, ...], Detector]
    embed: Callable[[], Embedder]
    photographs: Photographs | None

    def instruments(self, measure: Measure) -> Instruments:
        return Instruments(self.detectors[_place(measure)], self.embed, self.photographs)

    def shows(self, policy: Policy) -> Shows:
        """Tells whether pictures show what their prompts expect."""

        def place(prompt: Prompt) -> tuple[str, ...]:
            near = [c.name for c in policy.concepts if prompt.is_near(c)]
            return ("concept", prompt.concept) if prompt.concept else ("neighbours", near[0]) if near else ("retained",)

        def found(prompts: Sequence[Prompt], images: NDArray[np.uint8]) -> NDArray[np.bool_]:
            seen = np.zeros(len(prompts), dtype=bool)
            for where, labels in {(place(p), p.expects) for p in prompts}:
                at = [i for i, p in enumerate(prompts) if (place(p), p.expects) == (where, labels)]
                seen[at] = np.all([self.detectors[where](images[at], label) for label in labels], axis=0)
            return seen

        return found

    def tried(self, policy: Policy) -> dict[str, Labelled]:
        """By concept, how often its detector is wrong, where there are labelled pictures. StageError if they cannot be read."""
        found = {c.name: labelled(c, self.detectors["concept", c.name], policy) for c in policy.concepts}
        return {name: known for name, known in found.items() if known is not None}

    def used(self, tried: Mapping[str, Labelled]) -> tuple[Mapping[str, object], ...]:
        """Name, threshold and digest of each detector, and how it did on labelled pictures, for the report."""
        found = []
        for one in {id(d): d for d in self.detectors.values()}.values():
            own = [{"concept": name, **asdict(known)} for name, known in tried.items() if self.detectors["concept", name] is one]
            said: dict[str, object] = {"name": one.name, "threshold": one.threshold, "digest": one.digest}
            found.append(said | ({"labelled": own} if own else {}))
        return tuple(found)


def open_bench(policy: Policy, embedder: Callable[[], Embedder] | None = None) -> Bench:
    """Load the detectors. A concept's own must know its label; things that stay are told by the first of them that knows all
    of them, else by the one that knows any (the mini's for the mini, ``zero-shot`` for others).

    Raises StageError where a detector cannot be had or does not know its label, or a photograph of the policy's cannot be read, and
    PlanError where a folder has no pictures. The embedder is loaded when first needed.
    """
    refuse(policy)
    load = cache(lambda name, options: registry.get("detector", name)(**json.loads(options)))
    own = {c.name: _load(load, c.detector) for c in policy.concepts}
    chosen: dict[tuple[str, ...], Detector] = {}
    for m in (m for attack in ("none", "other") for m in measures(policy, attack)):
        if m.concept is not None and not m.keep:
            detector = own[m.concept.name]
            if not _knows(detector, m.labels):
                raise StageError(f"{m.concept.name}: the detector {detector.name} does not know the label {m.concept.label!r}")
        else:
            first = [own[m.concept.name]] if m.concept is not None else []
            detector = next((d for d in (*first, *own.values()) if _knows(d, m.labels)), None) or _load(load, _fallback(policy))
        if not _knows(detector, m.labels):
            raise StageError(f"no detector knows all of {', '.join(m.labels)}; the last that was asked is {detector.name}")
        chosen[_place(m)] = detector
    embed = _once(lambda: Remembering((embedder or _embedder(policy))()))
    return Bench(chosen, embed, photographs(policy, embed))


def _once(load: Callable[[], Remembering]) -> Callable[[], Remembering]:
    """What ``load`` returns or the StageError it raises, remembered: a hub out of reach is waited for once, not by every metric."""

    @cache
    def tried() -> Remembering | StageError:
        try:
            return load()
        except StageError as error:
            return error

    def loaded() -> Remembering:
        if isinstance(found := tried(), StageError):
            raise found
        return found

    return loaded


def shows(policy: Policy) -> Shows:
    """Tells whether pictures show what their prompts expect, with the detectors the audit will ask. Raises like ``open_bench``."""
    return open_bench(policy).shows(policy)


def _place(measure: Measure) -> tuple[str, ...]:
    """Which detector a measure has: one for each concept, one for its neighbours, one for general things."""
    if measure.concept is None:
        return ("retained",)
    return ("neighbours" if measure.keep else "concept", measure.concept.name)


def _load(load: Callable[[str, str], Detector], choice: Choice) -> Detector:
    return load(choice.name, json.dumps(dict(choice.options), sort_keys=True))


def _knows(detector: Detector, labels: tuple[str, ...]) -> bool:
    return detector.labels is None or set(labels) <= set(detector.labels)


def _fallback(policy: Policy) -> Choice:
    return Choice("mini" if policy.base.embedded else "zero-shot")


def _embedder(policy: Policy) -> Callable[[], Embedder]:
    """The mini's own embedding for the mini, CLIP for others."""

    def load() -> Embedder:
        if policy.base.embedded:
            from safeflux.mini import embedder

            return embedder.load()
        from safeflux.metrics import clip

        return clip.load()

    return load
