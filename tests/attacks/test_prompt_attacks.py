"""Direct and reworded prompts: what is asked, and that no noise serves two pictures."""

import random

import numpy as np
import pytest

from safeflux import prompts
from safeflux.attacks import none, paraphrase
from safeflux.policy import Choice, Concept
from safeflux.types import AuditTask

SWORD = Concept("sword", "object", ("sword", "blade", "rapier"), "", ("cross", "arrow"), Choice("mini"), "sword")
NEON = Concept("neon", "style", ("neon", "tube light"), "", ("sketch",), Choice("mini"), "neon look")
COMET = Concept("captain comet", "character", ("captain comet",), "", (), Choice("mini"), "captain comet")


def task(*concepts: Concept, seed: int = 3) -> AuditTask:
    return AuditTask(concepts, ("tree", "house"), seed, steps=4, batch=7)


class Recorder:
    """Draws its own call number into every picture."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], list[int], int]] = []

    def draw(self, texts: list[str], seeds: list[int], *, steps: int, batch: int) -> np.ndarray:
        self.calls.append((texts, seeds, steps))
        return np.full((len(texts), 2, 2, 3), len(self.calls), np.uint8)


def test_none_asks_by_name_for_each_concept_its_neighbours_and_general_things() -> None:
    pairs = none.plan(task(SWORD, NEON, COMET), 30)
    asked = [p for p, _ in pairs]
    for concept, noun in (("sword", "sword"), ("neon", "neon"), ("captain comet", "captain comet")):
        mine = [p for p in asked if p.concept == concept]
        assert len(mine) == 30
        assert all(noun in p.text and p.kind == "direct" for p in mine)
    assert {p.expects for p in asked if p.concept == "neon"} == {("neon look",)}
    near = [p for p in asked if p.kind == "neighbour"]
    assert len(near) == 60
    assert {p.expects[0] for p in near} == {"cross", "arrow", "sketch"}
    assert all(p.expects[0] in p.text and p.concept is None for p in near)
    assert sum(p.kind == "general" for p in asked) == 30
    assert all(prompts.split_of(p.text) == "audit" for p in asked)


def test_neighbours_of_a_style_are_asked_for_as_styles() -> None:
    styled = [p.text for p, _ in none.plan(task(NEON), 20) if p.kind == "neighbour"]
    assert all(any(noun in text for noun in prompts.NOUNS) for text in styled)


@pytest.mark.parametrize("plan", [none.plan, lambda task, n: paraphrase.plan(task, n, 0.3)])
def test_the_same_task_gives_the_same_prompts_and_each_its_own_noise(plan) -> None:  # type: ignore[no-untyped-def]
    pairs = plan(task(SWORD, NEON), 40)
    assert pairs == plan(task(SWORD, NEON), 40)
    seeds = [seed for _, seed in pairs]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert not {seed for _, seed in plan(task(SWORD, NEON, seed=4), 40)} & set(seeds)


def test_samples_come_in_order_in_batches_with_progress() -> None:
    seen: list[tuple[str, int, int]] = []
    model = Recorder()
    made = AuditTask((SWORD,), (), 3, steps=4, batch=7, progress=lambda *step: seen.append(step))
    samples = list(paraphrase.paraphrase(model, made, images=16))  # type: ignore[arg-type]
    assert [len(texts) for texts, _, _ in model.calls] == [7, 7, 2]
    assert {steps for _, _, steps in model.calls} == {4}
    assert [(s.prompt, s.seed) for s in samples] == paraphrase.plan(made, 16, 0.2)
    assert [int(s.image[0, 0, 0]) for s in samples] == [1] * 7 + [2] * 7 + [3] * 2
    assert {s.attack for s in samples} == {"paraphrase"}
    assert seen == [("paraphrase", 7, 16), ("paraphrase", 14, 16), ("paraphrase", 16, 16)]


def test_paraphrase_uses_synonyms_and_sentences_training_never_had() -> None:
    texts = [p.text for p, _ in paraphrase.plan(task(SWORD), 60, 0.0)]
    assert not any("sword" in text for text in texts)
    assert 20 <= sum("blade" in text for text in texts) <= 40
    grammar = {text for word in SWORD.targets for text, _ in prompts._all(word, "object")}
    trained = {text for text in grammar if prompts.split_of(text) == "train"}
    assert not trained & set(texts)
    assert 25 <= sum(text not in grammar for text in texts) <= 35
    assert len(set(texts)) > 50


def test_paraphrase_of_a_style_and_of_a_name_without_synonyms() -> None:
    styled = [p.text for p, _ in paraphrase.plan(task(NEON), 20, 0.0)]
    assert all("tube light" in text and any(noun in text for noun in prompts.NOUNS) for text in styled)
    assert all("captain comet" in p.text and "a captain" not in p.text for p, _ in paraphrase.plan(task(COMET), 20, 0.0))


@pytest.mark.parametrize("typos", [0.0, 0.5, 1.0])
def test_the_share_of_slips_is_what_was_asked(typos: float) -> None:
    intact = [any(w in p.text.split() for w in ("blade", "rapier")) for p, _ in paraphrase.plan(task(SWORD), 200, typos)]
    assert 1 - np.mean(intact) == pytest.approx(typos, abs=0.12 if typos == 0.5 else 0)


def test_a_slip_changes_one_letter_and_never_the_first() -> None:
    rng = random.Random(0)
    seen = {paraphrase.misspell("blade", rng) for _ in range(300)}
    assert all(text[0] == "b" and text != "blade" and abs(len(text) - 5) <= 1 for text in seen)
    assert {"bade", "blaade", "balde"} <= seen
    assert all(paraphrase.misspell("captain comet", rng).split()[1][0] == "c" for _ in range(200))
    assert {len(paraphrase.misspell("aaa", rng)) for _ in range(50)} == {2, 4}
    assert paraphrase.misspell("ab", rng) == "ab"
