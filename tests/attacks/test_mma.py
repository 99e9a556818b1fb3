"""Words of the same meaning, found on the tiny FLUX's text encoders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shaken import SWORD, attack, same, task

from safeflux.attacks import soft
from safeflux.attacks.meaning import embed
from safeflux.attacks.mma import Climb, _exchanges, unlike
from safeflux.attacks.vocabulary import banned_words, says
from safeflux.errors import OptionError
from safeflux.models.flux1 import Flux1

SMALL = {"images": 4, "texts": 2, "length": 5, "iterations": 12, "candidates": 24, "top": 16}


def test_what_means_the_same_is_not_unlike(base: Flux1) -> None:
    target = embed(base, ["a sword"], "both")
    middle = embed(base, ["a cross"], "both")
    assert unlike(target, target, middle) == pytest.approx([0])
    same_way = [m + 3 * (t - m) for t, m in zip(target, middle, strict=True)]
    assert unlike(same_way, target, middle) == pytest.approx([0]), "the direction counts"
    assert unlike(embed(base, ["the moon at night", "a cat"], "both"), target, middle).min() > 0


def test_the_search_comes_nearer_and_says_no_name(base: Flux1, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    drawn = attack("mma", base, replace(task(tmp_path), progress=lambda *step: seen.append(step)), **SMALL)
    (path,) = tmp_path.glob("mma-*.json")
    for one in json.loads(path.read_text()):
        assert one["loss"] < one["start"]
        assert 24 <= one["evaluations"] <= 24 * 13
    assert not any(says(s.prompt.text, banned_words(SWORD.targets)) for s in drawn)
    assert [s.prompt.text for s in drawn[:2]] == [s.prompt.text for s in drawn[2:]]
    assert len({s.seed for s in drawn}) == 4
    assert ("mma, texts for sword", 24, 24) in seen


def test_gradients_speak_for_better_tokens_than_chance(base: Flux1) -> None:
    """Exchanges that CLIP's gradient speaks for bring CLIP nearer than as many random ones, nearly always."""
    target, middle = (embed(base, [f"a picture of a {word}"], "both") for word in ("sword", "cat"))
    words = soft.vocabularies(base)[0]
    wins, rng = 0, np.random.default_rng(0)
    for i in range(16):
        slots, apart = torch.from_numpy(rng.integers(len(words.ids), size=5)), []
        for top in (8, len(words.ids)):
            rows = _exchanges(base, 0, slots, words, target, middle, Climb(5, 1, 24, top), np.random.default_rng(i))
            with torch.no_grad():
                found = soft.pooled(base, soft.slotted(base, [("", "")] * 24, 5).clip, words.table[rows])
            apart.append(unlike([found.double().numpy()], target[:1], middle[:1]).mean())
        wins += apart[0] < apart[1]
    assert wins >= 14


def test_one_token_is_exchanged_at_a_time(base: Flux1) -> None:
    words = soft.vocabularies(base)[0]
    slots = torch.arange(5)
    target, middle = (embed(base, [text], "both") for text in ("a sword", "a cat"))
    rows = _exchanges(base, 0, slots, words, target, middle, Climb(5, 1, 30, 9), np.random.default_rng(1))
    assert rows.shape == (30, 5)
    assert (rows != slots).sum(1).max() == 1


def test_texts_are_searched_once_for_both_models_and_the_ban_can_be_lifted(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    first, again = attack("mma", base, task(tmp_path), **SMALL), attack("mma", base, task(tmp_path), **SMALL)
    assert same(first, again)
    other = attack("mma", erased, task(tmp_path, "erased"), **SMALL)
    assert [(s.prompt, s.seed) for s in other] == [(s.prompt, s.seed) for s in first]
    assert len(list(tmp_path.glob("mma-*.json"))) == 1
    free = attack("mma", base, task(tmp_path), **SMALL | {"ban": False})
    assert [s.prompt.text for s in free] != [s.prompt.text for s in first]


def test_numbers_that_make_no_sense_are_refused(base: Flux1) -> None:
    with pytest.raises(OptionError, match="wanted numbers of at least 1"):
        attack("mma", base, task(None), **SMALL | {"top": 0})
