"""Direct and reworded prompts: what is asked, and that no noise serves two pictures."""

import random
import re
from dataclasses import replace

import numpy as np
import pytest

from safeflux import prompts
from safeflux.attacks import none, paraphrase
from safeflux.attacks.paraphrase import Mix
from safeflux.errors import OptionError
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

    def draw_with_latents(self, texts: list[str], seeds: list[int], *, steps: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
        self.calls.append((texts, seeds, steps))
        return np.full((len(texts), 2, 2, 3), len(self.calls), np.uint8), np.array(seeds, np.float32)[:, None, None]


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


@pytest.mark.parametrize("plan", [none.plan, lambda task, n: paraphrase.plan(task, n, Mix(0.3, 0.2, 0.1))])
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
    assert [(s.prompt, s.seed) for s in samples] == paraphrase.plan(made, 16, Mix(0.2, 0.15, 0.1, 0.2))
    assert [int(s.image[0, 0, 0]) for s in samples] == [1] * 7 + [2] * 7 + [3] * 2
    assert {s.attack for s in samples} == {"paraphrase"}
    assert seen == [("paraphrase", 7, 16), ("paraphrase", 14, 16), ("paraphrase", 16, 16)]


def test_paraphrase_uses_synonyms_and_sentences_training_never_had() -> None:
    texts = [p.text for p, _ in paraphrase.plan(task(SWORD), 60, Mix(0.0))]
    assert not any("sword" in text for text in texts)
    assert 20 <= sum("blade" in text for text in texts) <= 40
    grammar = {text for word in SWORD.targets for text, _ in prompts._all(word, "object")}
    trained = {text for text in grammar if prompts.split_of(text) == "train"}
    assert not trained & set(texts)
    assert 25 <= sum(text not in grammar for text in texts) <= 35
    assert len(set(texts)) > 50


def test_paraphrase_of_a_style_and_of_a_name_without_synonyms() -> None:
    styled = [p.text for p, _ in paraphrase.plan(task(NEON), 20, Mix(0.0))]
    assert all("tube light" in text and any(noun in text for noun in prompts.NOUNS) for text in styled)
    assert all("captain comet" in p.text and "a captain" not in p.text for p, _ in paraphrase.plan(task(COMET), 20, Mix(0.0)))


@pytest.mark.parametrize("typos", [0.0, 0.5, 1.0])
def test_the_share_of_slips_is_what_was_asked(typos: float) -> None:
    intact = [any(w in p.text.split() for w in ("blade", "rapier")) for p, _ in paraphrase.plan(task(SWORD), 200, Mix(typos))]
    assert 1 - np.mean(intact) == pytest.approx(typos, abs=0.12 if typos == 0.5 else 0)


def test_a_slip_changes_one_letter_and_never_the_first() -> None:
    rng = random.Random(0)
    seen = {paraphrase.misspell("blade", rng) for _ in range(300)}
    assert all(text[0] == "b" and text != "blade" and abs(len(text) - 5) <= 1 for text in seen)
    assert {"bade", "blaade", "balde"} <= seen
    assert all(paraphrase.misspell("captain comet", rng).split()[1][0] == "c" for _ in range(200))
    assert {len(paraphrase.misspell("aaa", rng)) for _ in range(50)} == {2, 4}
    assert paraphrase.misspell("ab", rng) == "ab"


def test_shares_of_prompts_name_other_things_deny_it_or_are_in_other_languages() -> None:
    foreign = replace(SWORD, translations={"fr": ("une épée",), "de": ("ein Schwert",)})
    texts = [p.text for p, _ in paraphrase.plan(task(foreign), 400, Mix(0.0, 0.2, 0.1, 0.3))]
    translated = [text for text in texts if "épée" in text or "Schwert" in text]
    denied = [text for text in texts if re.search(r"\b(without|no|missing)\b", text)]
    beside = [text for text in texts if ("tree" in text or "house" in text) and text not in denied]
    assert len(translated) / 400 == pytest.approx(0.3, abs=0.08)
    assert len(denied) / 400 == pytest.approx(0.1, abs=0.06)
    assert len(beside) / 400 == pytest.approx(0.2, abs=0.08)
    assert not {*translated} & {*denied, *beside}
    assert any("une épée" in text and " " in text.replace("une épée", "").strip() for text in translated)


def test_other_things_are_general_nouns_and_other_erased_concepts() -> None:
    def asked(*concepts: Concept) -> list[str]:
        return [p.text for p, _ in paraphrase.plan(task(*concepts), 60, Mix(0.0, 1.0)) if p.concept == concepts[0].name]

    assert all(re.search(r"an? (tree|house)", text) for text in asked(SWORD))
    together = asked(SWORD, COMET, NEON)
    assert 20 <= sum("captain comet" in text for text in together) <= 40
    assert not any("neon" in text for text in together)
    styled = asked(NEON)
    assert all("tube light" in text and re.search(r"tree|house", text) for text in styled)
    assert not any("a no" in text or "  " in text for text in together + styled)


@pytest.mark.parametrize("wrong", [{"typos": 1.5}, {"together": -0.1}, {"together": 0.6, "translated": 0.6}])
def test_shares_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="wanted shares of 0 to 1"):
        paraphrase.paraphrase(Recorder(), task(SWORD), **wrong)  # type: ignore[arg-type]


def test_what_was_drawn_before_is_not_drawn_again_batch_by_batch() -> None:
    model, made = Recorder(), task(SWORD)
    first = list(paraphrase.paraphrase(model, made, images=16))  # type: ignore[arg-type]
    kept = {(s.prompt.text, s.seed): s for s in first[:10]}  # a batch of seven, and three of the next
    again = Recorder()
    second = list(paraphrase.paraphrase(again, replace(made, kept=kept), images=16))  # type: ignore[arg-type]
    assert [len(texts) for texts, _, _ in again.calls] == [7, 2]
    assert [(s.prompt, s.seed) for s in second] == [(s.prompt, s.seed) for s in first]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first[:7], second, strict=False))


def test_general_prompts_keep_the_latents_they_were_drawn_from_and_no_others_do() -> None:
    model = Recorder()
    first = list(none.none(model, task(SWORD), images=6))  # type: ignore[arg-type]
    assert {s.prompt.kind for s in first} == {"direct", "neighbour", "general"}
    for s in first:
        assert (s.latents is not None) == (s.prompt.kind == "general")
        assert s.latents is None or s.latents == np.float32(s.seed)
    again = list(none.none(model, replace(task(SWORD), kept={(s.prompt.text, s.seed): s for s in first}), images=6))  # type: ignore[arg-type]
    assert again == first, "what was kept comes as it was kept"


def test_prompts_of_which_there_are_enough_are_left_out() -> None:
    model = Recorder()
    made = replace(task(SWORD, NEON), enough=lambda prompt: prompt.concept == "sword" and len(model.calls) >= 2)
    samples = list(none.none(model, made, images=20))  # type: ignore[arg-type]
    about = [s.prompt.concept for s in samples]
    assert about.count("sword") == 14
    assert about.count("neon") == 20
