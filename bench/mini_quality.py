"""What the embedded FLUX can draw and what its detectors can tell: ``python bench/mini_quality.py``.

Prints the table of the model's card. Intervals are Wilson 95%; every picture has its own noise seed, counted up from --seed.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from safeflux import prompts
from safeflux.mini import detector
from safeflux.mini.captions import SYNONYMS, random_scene
from safeflux.mini.world import CHARACTERS, LABELS, STYLES, THINGS, render
from safeflux.models.flux1 import Flux1
from safeflux.statistics import wilson

MODEL = Path(detector.__file__).parent / "model"


LINES: list[str] = []


def say(line: str) -> None:
    print(line, flush=True)
    LINES.append(line)


def rate(name: str, k: int, n: int, note: str = "") -> None:
    low, high = wilson(k, n)
    say(f"| {name} | {k} of {n} | {100 * k / n:.1f}% | {100 * low:.1f} to {100 * high:.1f}% | {note} |")


def table(title: str) -> None:
    say(f"\n{title}\n\n| what | found | rate | 95% interval | |\n|---|---|---|---|---|")


def write_card(path: Path) -> None:
    """Put what was measured between the card's markers."""
    begin, end = "<!-- measured: begin -->", "<!-- measured: end -->"
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    path.write_text(f"{before}{begin}\n" + "\n".join(LINES) + f"\n\n{end}{rest.partition(end)[2]}", encoding="utf-8")


class Drawing:
    """Draws prompts with fresh seeds and says which labels the judge and the checker find."""

    def __init__(self, model: Flux1, seed: int, steps: int) -> None:
        self.model, self.steps, self.seeds = model, steps, itertools.count(seed)
        self.pictures: list[NDArray[np.uint8]] = []

    def __call__(self, texts: list[str]) -> NDArray[np.bool_]:
        images = self.model.draw(texts, [next(self.seeds) for _ in texts], steps=self.steps, batch=64)
        self.pictures.append(images)
        return detector.load("judge")(images) > 0.5


def named(draw: Drawing, title: str, words: Iterable[tuple[str, str]], category: str, n: int) -> None:
    """``n`` audit prompts for each (label, word): how often the judge finds the label."""
    table(title)
    total, results = 0, []
    for label, word in words:
        texts = [p.text for p in prompts.about(label, [word], category, n, split="audit", seed=1, label=label)]
        k = int(draw(texts)[:, LABELS.index(label)].sum())
        results.append((k / n, label, word))
        total += k
    worst = sorted(results)[:4]
    rate("all", total, n * len(results), "worst: " + ", ".join(f"{word} {100 * r:.0f}%" for r, _, word in worst))


def pairs(draw: Drawing, n: int) -> None:
    table("Two things in one prompt")
    rng = random.Random(5)
    chosen = [rng.sample(list(THINGS), 2) for _ in range(n)]
    forms = ("{a} and {b}", "{a} next to {b}", "{a} on the left and {b} on the right", "a picture of {a} and {b}")
    texts = [rng.choice(forms).format(a=prompts.article(a), b=prompts.article(b)) for a, b in chosen]
    found = draw(texts)
    both = sum(bool(row[LABELS.index(a)] and row[LABELS.index(b)]) for row, (a, b) in zip(found, chosen, strict=True))
    rate("both found", both, n)


def detectors(draw: Drawing, n: int) -> None:
    table("The detectors, on rendered pictures that were never trained on, and on what the model drew above")
    rng = random.Random(12345)
    scenes = [random_scene(rng)[0] for _ in range(n)]
    images = np.stack([render(s, rng) for s in scenes])
    truth = np.array([[label in s.labels for label in LABELS] for s in scenes])
    kinds: tuple[detector.Which, ...] = ("judge", "checker")
    for which in kinds:
        found = detector.load(which)(images) > 0.5
        rate(f"{which}: sensitivity", int((found & truth).sum()), int(truth.sum()))
        rate(f"{which}: specificity", int((~found & ~truth).sum()), int((~truth).sum()))
    drawn = np.concatenate(draw.pictures)
    judge, checker = (detector.load(which)(drawn) > 0.5 for which in kinds)
    rate("agreement on generated pictures, label by label", int((judge == checker).sum()), judge.size)
    either = judge | checker
    rate("agreement where either finds the label", int((judge & checker).sum()), int(either.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":", 1)[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--detectors", type=Path, default=detector.DIRECTORY)
    parser.add_argument("--each", type=int, default=40, help="pictures per thing, style, character (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--card", action="store_true", help="write the result into the model's card")
    parser.add_argument("--seed", type=int, default=1_000_000)
    chosen = parser.parse_args()
    detector.DIRECTORY = chosen.detectors
    n = chosen.each
    say(f"n = {n} pictures a word, {chosen.steps} steps, seeds from {chosen.seed}; judged by the judge at 0.5")
    draw = Drawing(Flux1.load(chosen.model), chosen.seed, chosen.steps)
    named(draw, "Things, direct prompts", [(t, t) for t in THINGS], "object", n)
    named(draw, "Styles, direct prompts", [(s, s) for s in STYLES], "style", n)
    named(draw, "Characters, direct prompts", [(c, c) for c in CHARACTERS], "character", n)
    kinds = {"object": THINGS, "style": STYLES, "character": CHARACTERS}
    for category, among in kinds.items():
        named(draw, f"Synonyms ({category}s)", [(x, s) for x in among for s in SYNONYMS[x]], category, n)
    pairs(draw, 10 * n)
    detectors(draw, 50 * n)
    if chosen.card:
        write_card(chosen.model / "README.md")


if __name__ == "__main__":
    main()
