"""Optimised embeddings on the tiny FLUX: the "erased" model is the same one with its weights shaken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shaken import NEON, STEPS, SWORD, same, task

from safeflux import prompts, registry
from safeflux.attacks.embedding_pgd import embedding_pgd
from safeflux.attacks.taught import direct
from safeflux.audit import Audited, audit
from safeflux.audit_drawing import Subject
from safeflux.errors import OptionError, StageError
from safeflux.models.flux1 import Flux1
from safeflux.plan.attacking import effort
from safeflux.policy import Audit, Base, Choice, Limit, Limits, Policy, ReportSettings, Signing
from safeflux.train.ball import lengths
from safeflux.train.pgd import Hunt, search
from safeflux.types import AuditTask, Sample

HUNT = Hunt(radius=0.2, iterations=6, step=0.25, restarts=1, recompute=False)
SMALL = {"images": 6, "radius": 0.2, "iterations": 3, "batch": 4}


def run(model: Flux1, task: AuditTask, **options: object) -> list[Sample]:
    return list(embedding_pgd(model, task, **SMALL | options))  # type: ignore[arg-type]


def far(base: Flux1, erased: Flux1, hunt: Hunt, n: int = 24):  # type: ignore[no-untyped-def]
    """What the search finds for ``n`` prompts, the embeddings it started from, the plain prompts' loss [n]."""
    pairs = direct(task(None), n)
    noise, cond = base.noise([s for _, s in pairs]), base.encode([p.text for p, _ in pairs])
    target = base.sample(noise, cond, steps=STEPS)
    found = search(erased, noise, cond, target, [s for _, s in pairs], STEPS, hunt)
    return found, cond, (erased.sample(noise, cond, steps=STEPS) - target).square().mean((1, 2))


# the search


def test_it_comes_nearer_to_what_the_base_model_draws_and_stays_in_the_ball(base: Flux1, erased: Flux1) -> None:
    found, cond, plain = far(base, erased, HUNT)
    assert (found.loss < plain).float().mean() > 0.95
    assert found.loss.mean() < 0.9 * plain.mean()
    for reached in lengths(found.delta, cond):
        assert (reached <= HUNT.radius * (1 + 1e-5)).all()
        assert reached.mean() > 0.5 * HUNT.radius, "both parts are used"


def test_a_larger_ball_and_more_starts_are_never_worse(base: Flux1, erased: Flux1) -> None:
    losses = [far(base, erased, replace(HUNT, radius=radius), 12)[0].loss.mean() for radius in (0.0, 0.05, 0.2)]
    assert losses[0] > losses[1] > losses[2]
    once, again = (far(base, erased, replace(HUNT, restarts=n), 12)[0].loss for n in (1, 2))
    assert (again <= once).all()


def test_the_best_of_each_sample_is_kept_even_when_later_steps_are_worse(base: Flux1, erased: Flux1) -> None:
    """With steps far too long, the search jumps about; what it returns is still no worse than the prompt."""
    found, cond, plain = far(base, erased, replace(HUNT, step=50.0, iterations=3), 12)
    assert (found.loss <= plain * (1 + 1e-5)).all()
    noise, pairs = base.noise([s for _, s in direct(task(None), 12)]), range(12)
    rolled = erased.sample(noise, type(cond)(cond.sequence + found.delta.sequence, cond.pooled + found.delta.pooled), steps=STEPS)
    assert all(torch.allclose(rolled[i], found.latents[i], atol=1e-4) for i in pairs), "the change leads to the latents"


def test_recomputing_steps_and_other_samples_change_nothing(base: Flux1, erased: Flux1) -> None:
    hunt = replace(HUNT, iterations=2, restarts=2)
    found, _, _ = far(base, erased, hunt, 6)
    again, _, _ = far(base, erased, replace(hunt, recompute=True), 6)
    assert torch.allclose(again.latents, found.latents, atol=1e-4)
    alone, _, _ = far(base, erased, hunt, 2)
    assert torch.allclose(alone.latents, found.latents[:2], atol=1e-4)


def test_the_weights_get_no_gradients_and_are_not_changed(base: Flux1, erased: Flux1) -> None:
    before = {name: weight.clone() for name, weight in erased.transformer.named_parameters()}
    far(base, erased, replace(HUNT, iterations=1), 2)
    assert all(weight.grad is None and torch.equal(weight, before[name]) for name, weight in erased.transformer.named_parameters())


# the attack


def test_prompts_are_the_audits_direct_ones_with_noise_of_their_own() -> None:
    pairs = direct(task(None, "base", SWORD, NEON), 20)
    assert [p.concept for p, _ in pairs] == ["sword"] * 20 + ["neon"] * 20
    assert all(p.concept in p.text and p.kind == "attack" and prompts.split_of(p.text) == "audit" for p, _ in pairs)
    assert len({seed for _, seed in pairs}) == 40
    assert not {seed for _, seed in direct(task(None, seed=4), 20)} & {seed for _, seed in pairs}


def test_the_base_model_draws_the_plain_prompts(base: Flux1, tmp_path: Path) -> None:
    drawn = run(base, task(tmp_path))
    plain = base.draw([s.prompt.text for s in drawn], [s.seed for s in drawn], steps=STEPS, batch=4)
    assert np.array_equal(np.stack([s.image for s in drawn]), plain)
    assert {s.attack for s in drawn} == {"embedding-pgd"}


def test_the_erased_model_is_driven_to_the_same_pairs_of_prompt_and_noise(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    before, after = run(base, task(tmp_path)), run(erased, task(tmp_path, "erased"))
    assert [(s.prompt, s.seed) for s in after] == [(s.prompt, s.seed) for s in before]
    plain = erased.draw([s.prompt.text for s in after], [s.seed for s in after], steps=STEPS)
    gaps = [np.abs(np.stack([s.image for s in before]).astype(int) - pictures).mean() for pictures in (plain, [s.image for s in after])]
    assert gaps[1] < gaps[0]


def test_radius_nought_is_the_plain_prompt(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    run(base, task(tmp_path))
    after = run(erased, task(tmp_path, "erased"), radius=0.0)
    plain = erased.draw([s.prompt.text for s in after], [s.seed for s in after], steps=STEPS, batch=4)
    assert np.array_equal(np.stack([s.image for s in after]), plain)


def test_it_is_deterministic(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    found = []
    for at in ("one", "two"):
        run(base, task(tmp_path / at))
        found.append(run(erased, task(tmp_path / at, "erased"), restarts=2, images=4))
    assert same(*found)


def test_a_killed_attack_goes_on_where_it_was(base: Flux1, erased: Flux1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(base, task(tmp_path))
    taught = set(tmp_path.iterdir())
    assert len(taught) == 2  # batches of 4 and 2
    half = embedding_pgd(erased, task(tmp_path, "erased"), **SMALL)  # type: ignore[arg-type]
    begun = [next(half) for _ in range(4)]
    assert len(set(tmp_path.iterdir()) - taught) == 1
    searched: list[int] = []
    real = search
    monkeypatch.setattr("safeflux.attacks.embedding_pgd.search", lambda *a: searched.append(len(a[1])) or real(*a))
    whole = run(erased, task(tmp_path, "erased"))
    assert searched == [2]
    assert same(begun, whole[:4])
    run(erased, replace(task(tmp_path, "erased"), digests={"base": "b", "erased": "other weights"}))
    run(erased, task(tmp_path, "erased"), radius=0.1)
    assert searched == [2, 4, 2, 4, 2]
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}


def test_weights_that_nobody_names_are_attacked_anew(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    run(base, replace(task(tmp_path), digests={}))
    kept = set(tmp_path.iterdir())
    run(erased, replace(task(tmp_path, "erased"), digests={}))
    assert set(tmp_path.iterdir()) == kept


def test_without_the_base_models_latents_it_says_what_to_do(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    for which in ("base", "erased"):
        with pytest.raises(StageError, match=r"needs a directory for the base model's latents \(task.cache\)"):
            run(base, task(None, which))
    with pytest.raises(StageError, match=r"lacks the base model's latents.*attack the base model first"):
        run(erased, task(tmp_path, "erased"))
    run(base, task(tmp_path))
    for other in (task(tmp_path, "erased", seed=4), replace(task(tmp_path, "erased"), steps=3),
                  replace(task(tmp_path, "erased"), digests={"base": "another base", "erased": "e"})):  # fmt: skip
        with pytest.raises(StageError, match="lacks the base model's latents"):
            run(erased, other)


@pytest.mark.parametrize("option", [{"radius": -0.1}, {"step": 0.0}, {"iterations": 0}, {"restarts": 0}, {"batch": 0}, {"images": 0}])
def test_numbers_that_make_no_sense_are_refused(base: Flux1, tmp_path: Path, option: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="wanted a radius of at least 0"):
        run(base, task(tmp_path), **option)


@pytest.mark.parametrize(("options", "wanted"), [({}, 21), ({"iterations": 4, "restarts": 2}, 18), ({"recompute": True}, 31)])
def test_the_plan_counts_its_passes(options: dict[str, object], wanted: int) -> None:
    assert effort(Choice("embedding-pgd", options), 4).erased == 4 * wanted


# the audit


@dataclass(frozen=True)
class Seer:
    """Sees everything everywhere."""

    name: str = "seer"
    threshold: float = 0.5
    digest: str = "none"
    labels: tuple[str, ...] | None = None

    def __call__(self, images: np.ndarray, label: str) -> np.ndarray:
        return np.ones(len(images), bool)


def seer() -> Seer:
    return Seer()


@pytest.fixture
def _seer(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(registry.BUILT_IN, "detector", registry.BUILT_IN["detector"] | {"seer": f"{__name__}:seer"})
    registry._table.cache_clear()
    yield
    monkeypatch.undo()
    registry._table.cache_clear()


def audited(base: Flux1, erased: Flux1, cache: Path | None, store: Path | None = None) -> Audited:
    policy = Policy(
        "demo", "1", 3, Base("./somewhere"), (SWORD,), (), Choice("mask"), Limits(Limit(0.5), Limit(0.5), Limit(0.5)),
        Audit("quick", (Choice("embedding-pgd", SMALL),), None), (), ReportSettings(), Signing(), None, "0" * 64, "",
    )  # fmt: skip
    return audit(Subject(lambda: base, "b"), Subject(lambda: erased, "e"), policy, task(cache), store=store)


@pytest.mark.usefixtures("_seer")
def test_the_audit_measures_it_against_its_control(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    found = {(f.metric, f.model): f for f in audited(base, erased, tmp_path / "cache", tmp_path / "store").findings}
    assert set(found) == {("effective", "base"), ("detection", "base"), ("detection", "erased")}
    assert (found["effective", "base"].k, found["effective", "base"].n) == (6, 6)
    assert (found["detection", "erased"].k, found["detection", "erased"].status) == (6, "failed")
    assert (found["detection", "base"].cost, found["detection", "erased"].cost) == (6 * STEPS, 6 * STEPS * 7)
    again = audited(base, erased, tmp_path / "cache", tmp_path / "store")
    assert {(f.metric, f.model): f for f in again.findings} == found


@pytest.mark.usefixtures("_seer")
def test_an_audit_without_a_cache_leaves_it_unchecked(base: Flux1, erased: Flux1) -> None:
    (found,) = audited(base, erased, None).findings
    assert found.status == "unchecked"
    assert "task.cache" in found.reason
