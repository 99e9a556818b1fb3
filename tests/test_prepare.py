from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from safeflux import prompts, registry
from safeflux.errors import StageError
from safeflux.models.flux1 import Flux1
from safeflux.plan import Plan, make_plan
from safeflux.policy import Choice, Concept, Policy, read_policy
from safeflux.prepare import anchored, border_gap, candidates, load_task, prepare, retained

POLICY = """safeflux: 1
name: tiny
version: "1.0"
base: {model: %s}
concepts:
  - {name: sword, category: object, targets: [sword, blade], anchor: a shape, retain: [cross], detector: mini}
  - {name: neon, category: style, retain: [sketch], detector: mini}
retain: [cat, tree]
method: mask
limits: {detection: 0.10, attack_success: 0.30, retained: 0.80}
audit: {preset: quick, attacks: [none]}
signing: {demo: true}
"""


@pytest.fixture
def policy(tiny: Path) -> Policy:
    return read_policy((POLICY % tiny).encode(), None)


@pytest.fixture
def plan(policy: Policy) -> Plan:
    return make_plan(policy)


def seen_by(monkeypatch: pytest.MonkeyPatch, answers: Callable[[int, int], Any]) -> None:
    """A detector that answers by the number of the call and of pictures; pictures come first, their anchors' second."""
    calls = iter(range(100))
    monkeypatch.setattr(registry, "get", lambda kind, name: lambda **_: lambda images, label: answers(next(calls), len(images)))


def test_prepared_work_comes_back(policy: Policy, plan: Plan, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen_by(monkeypatch, lambda call, n: np.full(n, call % 2 == 0))
    model = Flux1.load(tiny)
    prepare(policy, plan, tmp_path, model=model, progress=lambda *_: None)
    task = load_task(policy, plan, tmp_path)
    assert set(task.pairs) == {"sword", "neon"}
    assert all(4 <= len(pairs) <= plan.train_prompts for pairs in task.pairs.values())
    assert all(pair.anchor == "" for pair in task.pairs["neon"])
    texts = [task.pairs["sword"][0].prompt.text, task.pairs["sword"][0].anchor, task.retain[0].text]
    assert torch.allclose(task.embed(texts).sequence, model.encode(texts).sequence, atol=1e-6)
    assert torch.allclose(task.embed(texts).pooled, model.encode(texts).pooled, atol=1e-6)


@pytest.mark.parametrize("drawn", [False, True])
def test_pairs_that_show_the_wrong_thing_are_dropped(
    policy: Policy, plan: Plan, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: bool
) -> None:
    """Neither a concept that is not drawn nor an anchor that is the concept may teach anything."""
    seen_by(monkeypatch, lambda call, n: np.full(n, drawn))
    with pytest.raises(StageError, match=r"sword: of 100 pairs .* only 0 are usable"):
        prepare(policy, plan, tmp_path, model=Flux1.load(tiny), progress=lambda *_: None)


def concept(category: str, anchor: str, *targets: str) -> Concept:
    return Concept(targets[0], category, targets, anchor, (), Choice("mini"), targets[0])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "about", "wanted"),
    [
        ("a picture of a red sword at night", concept("object", "a shape", "sword"), "a picture of a red shape at night"),
        ("show me a sword", concept("object", "an object", "sword"), "show me an object"),
        ("an umbrella on tiles", concept("object", "a shape", "umbrella"), "a shape on tiles"),
        ("captain comet by the sea", concept("character", "a figure", "captain comet"), "a figure by the sea"),
        ("a door key in a meadow", concept("object", "a shape", "key", "door key"), "a shape in a meadow"),
        ("a neon of a cat", concept("style", "", "neon"), ""),
    ],
)
def test_the_anchor_takes_the_concepts_place(text: str, about: Concept, wanted: str) -> None:
    assert anchored(text, about) == wanted


def test_border_gap_looks_at_the_border_only() -> None:
    a = np.zeros((1, 16, 16, 3), np.uint8)
    centre, border = a.copy(), a.copy()
    centre[:, 4:12, 4:12] = 255
    border[:, :2] = 255
    assert border_gap(a, centre)[0] == 0
    assert border_gap(a, border)[0] == pytest.approx(32 / (256 - 144))


def test_retained_prompts_are_unique_and_name_no_concept(policy: Policy) -> None:
    found = retained(policy, 20, seed=1)
    assert len({p.text for p in found}) == len(found)
    assert {p.expects[0] for p in found} == {"cross", "sketch", "cat", "tree"}
    assert not any("sword" in p.text or "neon" in p.text for p in found)


@pytest.mark.parametrize("shape", ["a shape", ""])
def test_half_of_the_pairs_names_something_beside_the_concept(policy: Policy, shape: str) -> None:
    """What is beside it stays as it is, unless it is to be erased too; with an empty anchor nothing else is left."""
    sword, comet = replace(policy.concepts[0], anchor=shape), concept("character", "a figure", "captain comet")
    both = replace(policy, concepts=(sword, comet))
    pairs = candidates(sword, both, 80, 1)
    together = [pair for pair in pairs if pair.prompt.rest]
    assert len(together) == len(pairs) // 2
    assert {pair.prompt.rest for pair in together} == {"a cat", "a tree", "captain comet"}
    for pair in together:
        rest = "a figure" if pair.prompt.rest == "captain comet" else pair.prompt.rest
        assert pair.prompt.rest in pair.prompt.text
        assert prompts.split_of(pair.prompt.text) == "train"
        if shape:
            assert pair.anchor == re.sub("sword|blade", "shape", pair.prompt.text).replace("captain comet", "a figure")
        else:
            assert pair.anchor == rest
    assert not any(pair.prompt.rest for pair in candidates(policy.concepts[1], policy, 20, 1))  # a style is always of something


def test_a_quarter_of_the_general_prompts_asks_for_two_things(policy: Policy) -> None:
    general = [prompt for prompt in retained(policy, 10, 1) if prompt.kind == "general"]
    two = [prompt for prompt in general if prompt.rest]
    assert 0.15 < len(two) / len(general) < 0.3  # one that comes twice is left out
    assert all(set(prompt.expects) == {"cat", "tree"} and "cat" in prompt.text and "tree" in prompt.text for prompt in two)
    assert not any(prompt.rest for prompt in retained(policy, 20, 1, split="held-out"))
