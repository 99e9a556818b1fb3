from __future__ import annotations

import random

import numpy as np
import pytest

from safeflux import prompts
from safeflux.mini.captions import SYNONYMS, caption, misspell, random_scene
from safeflux.mini.world import BACKGROUNDS, CHARACTERS, LABELS, PLAIN, SIZE, STYLES, THINGS, Item, Scene, render


def test_the_world_is_as_large_as_promised() -> None:
    assert len(THINGS) >= 24
    assert len(STYLES) >= 6
    assert len(CHARACTERS) >= 3
    assert all(" " in name for name in CHARACTERS)
    assert set(SYNONYMS) == set(LABELS)


def test_a_scene_and_a_seed_make_one_picture() -> None:
    scene = Scene((Item("sword"),), "meadow")
    first, again, other = (render(scene, random.Random(s)) for s in (1, 1, 2))
    assert first.shape == (SIZE, SIZE, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("style", [PLAIN, *STYLES])
def test_every_form_differs_from_every_other_in_every_style(style: str) -> None:
    """Far more than jitter does: otherwise no detector could tell them apart."""
    forms = [*THINGS, *CHARACTERS]
    pictures = {f: render(Scene((Item(f),), style=style), random.Random(0)).astype(float) for f in forms}
    jitter = max(np.abs(render(Scene((Item(f),), style=style), random.Random(9)) - pictures[f]).mean() for f in ("circle", "square"))
    nearest = min(np.abs(pictures[a] - pictures[b]).mean() for a in forms for b in forms if a < b)
    assert nearest > 0.25 * jitter
    assert nearest > 0.5


def test_backgrounds_and_styles_change_the_picture() -> None:
    plain = render(Scene((Item("cat"),)), random.Random(0)).astype(float)
    others = [Scene((Item("cat"),), b) for b in BACKGROUNDS[1:]] + [Scene((Item("cat"),), style=s) for s in STYLES]
    for scene in others:
        assert np.abs(render(scene, random.Random(0)) - plain).mean() > 3, scene


def test_a_caption_names_everything_in_its_scene() -> None:
    rng = random.Random(3)
    for _ in range(300):
        scene, generic = random_scene(rng)
        text = caption(scene, rng, typo=0.0, generic=generic)
        for label in scene.labels if not generic else scene.labels - {i.form for i in scene.items}:
            assert any(word in text for word in (label, *SYNONYMS[label])), (text, label)


def test_a_slip_of_the_keyboard_changes_one_place() -> None:
    rng = random.Random(1)
    for _ in range(50):
        slipped = misspell("a red sword in a meadow", rng)
        assert abs(len(slipped) - len("a red sword in a meadow")) <= 1


def test_training_and_audit_prompts_never_meet() -> None:
    for word, category in (("sword", "object"), ("neon", "style"), ("captain comet", "character")):
        train, audit = (
            {p.text for p in prompts.about(word, [word], category, 200, split=split, seed=1, label=word)}  # type: ignore[arg-type]
            for split in ("train", "audit")
        )
        assert len(train) > 20
        assert len(audit) > 20
        assert not train & audit
