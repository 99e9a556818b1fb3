"""The sampler run backwards, on the tiny FLUX."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from painted import make_policy
from shaken import STEPS, attack, gap, named, same, task

from safeflux.attacks.latent_inversion import invert
from safeflux.audit_lines import measures
from safeflux.errors import OptionError, StageError
from safeflux.models.flux1 import Flux1
from safeflux.plan.cost import budgets
from safeflux.policy import Choice

SMALL = {"images": 3, "batch": 4, "rounds": 8}
REPLAYED = "latent-inversion, inverted by the base model"


def test_the_noise_that_is_found_leads_to_the_picture(base: Flux1) -> None:
    noise, cond = base.noise([1, 2, 3]), base.encode(["a sword", "", "a cat"])
    picture = base.sample(noise, cond, steps=4)
    found = invert(base, picture, cond, 4, 12)
    assert torch.allclose(found, noise, atol=1e-3)
    assert (invert(base, picture, cond, 4, 1) - noise).abs().max() > (found - noise).abs().max()


def test_any_picture_comes_back_from_the_model_that_inverted_it(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    """So what comes back says nothing of itself: the control goes the same way."""
    before = attack("latent-inversion", base, task(tmp_path), **SMALL)
    after = attack("latent-inversion", erased, task(tmp_path, "erased"), **SMALL)
    own = named(after, "latent-inversion")
    assert [(s.prompt.kind, s.prompt.concept) for s in own] == [("attack", "sword")] * 3 + [("general", None)] * 3
    assert [(s.prompt, s.seed) for s in own] == [(s.prompt, s.seed) for s in before]
    assert gap(own, before) < 0.1 < gap(own, erased.draw([""] * 6, [s.seed for s in own], steps=STEPS))
    assert gap(named(after, REPLAYED), before) > gap(own, before)


def test_with_the_name_both_ways_are_asked_with_it(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    options = SMALL | {"prompt": "named", "inverted_by": "base"}
    before = attack("latent-inversion", base, task(tmp_path), **options)
    after = attack("latent-inversion", erased, task(tmp_path, "erased"), **options)
    assert {s.attack for s in after} == {"latent-inversion"}
    seeds = [s.seed for s in before]
    assert gap(after, erased.draw([s.prompt.text for s in before], seeds, steps=STEPS)) < 0.1, "the noise is that of the picture"


def test_what_was_inverted_is_kept(base: Flux1, erased: Flux1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attack("latent-inversion", base, task(tmp_path), **SMALL)
    found = attack("latent-inversion", erased, task(tmp_path, "erased"), **SMALL)
    monkeypatch.setattr("safeflux.attacks.latent_inversion.invert", lambda *_: pytest.fail("inverted again"))
    assert same(attack("latent-inversion", erased, task(tmp_path, "erased"), **SMALL), found)


def test_what_it_needs(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    attack("latent-inversion", base, task(tmp_path), **SMALL | {"inverted_by": "erased"})
    with pytest.raises(StageError, match="what the base model inverted is not kept"):
        attack("latent-inversion", erased, task(tmp_path, "erased"), **SMALL)
    for wrong in ({"rounds": 0}, {"steps": -1}, {"images": 0}):
        with pytest.raises(OptionError, match="wanted numbers of at least 1"):
            attack("latent-inversion", base, task(tmp_path), **SMALL | wrong)


def test_the_audit_counts_what_came_back_of_other_things_and_holds_no_limit_against_it() -> None:
    found = [(m.concept and m.concept.name, m.metric, m.labels, m.limit) for m in measures(make_policy(), "latent-inversion")]
    assert found == [("sword", "detection", ("sword",), None), (None, "retained", ("tree", "house"), None)]
    policy = make_policy(Choice("none"), Choice("latent-inversion"))
    assert [one.what for one in budgets(policy)] == ["detection", "retained"]
