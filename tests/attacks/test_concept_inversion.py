"""A word learned from pictures, on the tiny FLUX."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from shaken import NEON, STEPS, SWORD, attack, gap, named, same, task

from safeflux.attacks import inversion
from safeflux.attacks.inversion import Lesson, learn, spoken
from safeflux.attacks.taught import named as sentences
from safeflux.errors import OptionError, StageError
from safeflux.models.flux1 import Flux1

SMALL = {"images": 4, "pictures": 3, "iterations": 3, "batch": 2}


def misfit(model: Flux1, pictures: torch.Tensor, learned: dict[str, torch.Tensor]) -> float:
    """The model's error on ``pictures`` with what was learned, at all noise levels."""
    cond = spoken(model, SWORD, ["a picture of sword"] * len(pictures), learned)
    errors = []
    for sigma in model.sigmas(STEPS)[:-1]:
        e = model.noise(range(len(pictures)))
        with torch.no_grad():
            v = model.velocity((1 - sigma) * pictures + sigma * e, sigma, cond)
        errors.append((v - (e - pictures)).square().mean())
    return float(torch.stack(errors).mean())


def test_what_is_learned_fits_the_pictures_better_than_what_it_began_with(base: Flux1, tmp_path: Path) -> None:
    pictures = base.sample(base.noise(range(50, 58)), base.encode(["a sword"] * 8), steps=STEPS)
    told: list[int] = []
    before, after = (learn(base, task(tmp_path), SWORD, pictures, Lesson(2, n, 0.05, 8), told.append) for n in (0, 40))
    assert misfit(base, pictures, after) < misfit(base, pictures, before)
    assert told == list(range(1, 41))
    assert after["t5"].shape == (2, 128)
    assert all(p.grad is None for p in base.transformer.parameters())


def test_a_words_own_embedding_and_pooled_vector_say_the_word(base: Flux1) -> None:
    """What textual inversion could learn at best: the word itself."""
    text = "a picture of sword at night"
    whole = base.encode([text])
    table = base.text_encoder_2.get_input_embeddings().weight
    (token,) = base.tokenizer_2("sword", add_special_tokens=False).input_ids
    plain = inversion.pooled_of(base, [inversion.split(text, SWORD)])
    said = spoken(base, SWORD, [text], {"t5": table[[token]].detach(), "pooled": (whole.pooled - plain)[0]})
    assert torch.allclose(said.sequence, whole.sequence, atol=1e-5)
    assert torch.allclose(said.pooled, whole.pooled, atol=1e-5)


def test_it_is_learned_from_other_sentences_than_it_is_said_in(tmp_path: Path) -> None:
    around = inversion.frames(task(tmp_path), SWORD, 20)
    assert len(set(around)) == 20
    audit = {inversion.split(p.text, SWORD) for p in sentences(task(tmp_path), SWORD, 60)}
    assert not audit & set(around)


def test_both_words_are_said_to_the_erased_model(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    concepts = (SWORD, NEON)
    before = attack("concept-inversion", base, task(tmp_path, "base", *concepts), **SMALL)
    after = attack("concept-inversion", erased, task(tmp_path, "erased", *concepts), **SMALL)
    own, replayed = named(after, "concept-inversion"), named(after, "concept-inversion, learned on the base model")
    for some in (own, replayed):
        assert {(s.prompt, s.seed) for s in some} == {(s.prompt, s.seed) for s in before}
    assert gap(before, base.draw([s.prompt.text for s in before], [s.seed for s in before], steps=STEPS)) <= 1
    assert len(after) == 16


def test_what_was_learned_is_kept(base: Flux1, erased: Flux1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attack("concept-inversion", base, task(tmp_path), **SMALL)
    found = attack("concept-inversion", erased, task(tmp_path, "erased"), **SMALL)

    def again(*_: object) -> None:
        raise AssertionError("learned again")

    monkeypatch.setattr("safeflux.attacks.concept_inversion.learn", again)
    assert same(attack("concept-inversion", erased, task(tmp_path, "erased"), **SMALL), found)
    with pytest.raises(AssertionError, match="learned again"):
        attack("concept-inversion", erased, task(tmp_path, "erased"), **SMALL | {"rate": 0.5})


def test_one_of_the_two_is_the_attack_itself(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    for where in ("erased", "base"):
        attack("concept-inversion", base, task(tmp_path / where), **SMALL | {"learned_on": where})
        found = attack("concept-inversion", erased, task(tmp_path / where, "erased"), **SMALL | {"learned_on": where})
        assert {s.attack for s in found} == {"concept-inversion"}


def test_what_it_needs(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    attack("concept-inversion", base, task(tmp_path), **SMALL | {"learned_on": "erased"})
    with pytest.raises(StageError, match="what the base model learned is not kept"):
        attack("concept-inversion", erased, task(tmp_path, "erased"), **SMALL)
    for wrong in ({"pictures": 0}, {"rate": 0.0}, {"tokens": 0}):
        with pytest.raises(OptionError, match="wanted numbers of at least 1"):
            attack("concept-inversion", base, task(tmp_path), **SMALL | wrong)
