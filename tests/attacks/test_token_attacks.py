"""Tokens found by gradients: slots in prompts, the simplex, and the two attacks that chase the concept with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from shaken import STEPS, attack, gap, pictures, same, task

from safeflux.attacks import soft
from safeflux.attacks.p4d import Nearest
from safeflux.attacks.unlearndiffatk import Simplex, project
from safeflux.errors import OptionError, StageError
from safeflux.models.flux1 import Flux1
from safeflux.types import AuditTask

SMALL = {"images": 3, "tokens": 3, "iterations": 4, "looks": 2, "batch": 2}
NAMES = ("unlearndiffatk", "p4d")
ALONE = {"unlearndiffatk": SMALL | {"guesses": 0}, "p4d": SMALL}  # nothing beside


@pytest.mark.parametrize("before", ["", "a red"])
def test_the_embedding_of_a_token_in_a_slot_is_the_token(base: Flux1, before: str) -> None:
    words = soft.vocabularies(base)
    prompts = soft.slotted(base, [(before, "sword"), (before, "sword")], 1)
    at = [w.texts(torch.arange(len(w.ids))[:, None]).index("cat") for w in words]
    clip, t5 = (w.table[i].expand(2, 1, -1) for w, i in zip(words, at, strict=True))
    with torch.no_grad():
        found = soft.encode(base, prompts, clip, t5)
    wanted = base.encode([f"{before} cat sword".strip()] * 2)
    assert torch.allclose(found.sequence, wanted.sequence, atol=1e-5)
    assert torch.allclose(found.pooled, wanted.pooled, atol=1e-5)


def test_prompts_too_long_are_cut_and_keep_their_end_and_slots(base: Flux1) -> None:
    prompts = soft.slotted(base, [("red " * 40, "sword"), ("", "a cat " * 40)], 2)
    for rows, tokenizer, length in (
        (prompts.clip, base.tokenizer, base.tokenizer.model_max_length),
        (prompts.t5, base.tokenizer_2, base.max_length),
    ):
        assert rows.ids.shape == (2, length)
        assert (rows.ids[:, -1] == tokenizer.eos_token_id).all()
        assert (rows.start + 2 < length).all()
    assert soft.room(base) == min(base.tokenizer.model_max_length, base.max_length) - 2


def test_gradients_go_to_the_slots_alone(base: Flux1) -> None:
    prompts = soft.slotted(base, [("", "a sword")], 2)
    clip, t5 = (torch.randn(1, 2, w.table.shape[1], requires_grad=True) for w in soft.vocabularies(base))
    cond = soft.encode(base, prompts, clip, t5)
    (cond.pooled[:, 0].sum() + cond.sequence.square().sum()).backward()
    assert clip.grad.abs().sum() > 0
    assert t5.grad.abs().sum() > 0
    assert all(p.grad is None for encoder in (base.text_encoder, base.text_encoder_2) for p in encoder.parameters())


def test_names_are_no_part_of_a_vocabulary_that_bans_them(base: Flux1) -> None:
    for own, free in zip(soft.vocabularies(base, ("sword",)), soft.vocabularies(base), strict=True):
        assert len(own.ids) < len(free.ids)
        assert not any("sword" in text for text in own.texts(torch.arange(len(own.ids))[:, None]))


def test_the_projection_is_the_nearest_point_of_the_simplex() -> None:
    u = torch.randn(20, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    found = project(u)
    assert torch.allclose(found.sum(-1), torch.ones(20, dtype=torch.float64))
    assert (found >= 0).all()
    others = torch.distributions.Dirichlet(torch.ones(6, dtype=torch.float64)).sample((500,))
    assert ((found - u).norm(dim=-1) <= (others[:, None] - u).norm(dim=-1).amin(0) + 1e-9).all()
    assert torch.allclose(project(found), found, atol=1e-9)


@pytest.mark.parametrize("kind", [Simplex, Nearest])
def test_whole_tokens_are_used_and_gradients_pass_them(kind: type) -> None:
    table = torch.randn(7, 4, generator=torch.Generator().manual_seed(1))
    tokens = kind(table, [5, 6], 3)
    used, begun = tokens.put(), tokens.leaf[1].clone()
    apart = (used[:, :, None] - table).abs().amax(-1)
    assert apart.amin(-1).max() < 1e-6, "each is one of the table"
    (gradient,) = torch.autograd.grad((used - table[2]).square().sum(), tokens.leaf)
    assert gradient.abs().sum() > 0
    again = kind(table, [6, 5], 3)
    assert torch.equal(again.leaf[0], begun), "by the seed, not by the place"
    assert torch.equal(again.put()[0], used[1]), "by the seed, not by the place"
    assert tokens.best().shape == (2, 3)


def test_a_point_of_the_simplex_is_used_as_tokens_drawn_by_their_weights() -> None:
    table = torch.eye(3)
    tokens = Simplex(table, [5], 4000)
    with torch.no_grad():
        tokens.leaf.copy_(torch.tensor([0.7, 0.0, 0.3]).expand(1, 4000, 3))
    shares = tokens.put().detach()[0].mean(0)
    assert shares[1] == 0
    assert abs(shares[0] - 0.7) < 4 * (0.7 * 0.3 / 4000) ** 0.5
    assert (tokens.best() == 0).all()


@pytest.mark.parametrize("kind", [Simplex, Nearest])
def test_a_token_that_is_wanted_is_found(kind: type) -> None:
    table = torch.randn(7, 4, generator=torch.Generator().manual_seed(1))
    tokens = kind(table, [5], 2)
    adam = torch.optim.Adam([tokens.leaf], lr=0.1)
    for _ in range(200):  # rounding decides how soon: after 1 with some of torch's kernels, after 98 with others
        (tokens.leaf.grad,) = torch.autograd.grad((tokens.put() - table[2]).square().sum(), tokens.leaf)
        adam.step()
        tokens.settle()
    assert tokens.best().tolist() == [[2, 2]]


@pytest.mark.parametrize("name", NAMES)
def test_pairs_are_those_of_the_base_model_and_something_else_is_drawn(base: Flux1, erased: Flux1, tmp_path: Path, name: str) -> None:
    before, after = attack(name, base, task(tmp_path), **ALONE[name]), attack(name, erased, task(tmp_path, "erased"), **ALONE[name])
    assert [(s.prompt, s.seed, s.attack) for s in after] == [(s.prompt, s.seed, s.attack) for s in before] != []
    assert gap(before, base.draw([s.prompt.text for s in before], [s.seed for s in before], steps=STEPS)) <= 1
    assert gap(after, erased.draw([s.prompt.text for s in after], [s.seed for s in after], steps=STEPS)) > 0


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_is_what_the_texts_found_draw(base: Flux1, erased: Flux1, tmp_path: Path, name: str) -> None:
    attack(name, base, task(tmp_path), **ALONE[name] | {"batch": 3})
    after = attack(name, erased, task(tmp_path, "erased"), **ALONE[name] | {"batch": 3})
    (kept,) = tmp_path.glob(f"{name}-*.safetensors")
    found, prompts = load_file(kept), [s.prompt.text for s in after]
    typed = []
    for tokenizer, ids in ((erased.tokenizer, found["clip"]), (erased.tokenizer_2, found["t5"])):
        texts = tokenizer.batch_decode(ids.tolist(), clean_up_tokenization_spaces=False)
        typed.append([" ".join(f"{text} {rest}".split()) for text, rest in zip(texts, prompts, strict=True)])
    latents = erased.sample(erased.noise([s.seed for s in after]), erased.encode(*typed), steps=STEPS)
    assert gap(pictures(after), erased.decode(latents)) <= 1


def test_p4d_follows_the_base_models_way(base: Flux1, erased: Flux1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base model, asked with the prompt itself, strays not at all; the erased one does."""
    strays: list[torch.Tensor] = []

    def ask(
        model: Flux1, task: AuditTask, part: list, prompts: object, rests: object, moved: object, words: object, objective, pace: object
    ):  # type: ignore[no-untyped-def,type-arg]
        cond = model.encode([p.text for p, _ in part])
        strays.append(torch.stack([objective(cond[[1]], [1], iteration) for iteration in range(6)]))
        return {"latents": torch.zeros_like(model.noise([s for _, s in part]))}

    monkeypatch.setattr("safeflux.attacks.p4d.chase", ask)
    attack("p4d", base, task(tmp_path), **SMALL | {"images": 2})
    for model in (base, erased):
        attack("p4d", model, task(tmp_path, "erased", digests={"base": "b"}), **SMALL | {"images": 2})
    assert strays[0].max() < 1e-8
    assert strays[1].min() > 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_it_ends_when_the_concept_is_seen_and_is_not_searched_again(base: Flux1, erased: Flux1, tmp_path: Path, name: str) -> None:
    asked: list[int] = []

    def second(prompts: object, images: np.ndarray) -> np.ndarray:
        asked.append(len(images))
        return np.arange(len(images)) > 0

    attack(name, base, task(tmp_path), **ALONE[name])
    told: list[tuple[str, int, int]] = []
    seeing: AuditTask = task(tmp_path, "erased", shows=second, progress=lambda *step: told.append(step))
    found = attack(name, erased, seeing, **ALONE[name])
    assert asked == [2, 1, 1, 1, 1, 1], "two pictures, of which the plain prompt draws one; then one, which is never seen"
    assert (f"{name}, tokens for 2 pictures", 4, 4) in told
    assert same(attack(name, erased, seeing, **ALONE[name]), found)
    assert len(asked) == 6


def test_guesses_are_measured_beside_and_are_others_each_time(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    asked: list[np.ndarray] = []

    def never(prompts: object, images: np.ndarray) -> np.ndarray:
        asked.append(images)
        return np.zeros(len(images), dtype=bool)

    options = SMALL | {"images": 2, "guesses": 3}
    attack("unlearndiffatk", base, task(tmp_path), **options)
    found = attack("unlearndiffatk", erased, task(tmp_path, "erased", shows=never), **options)
    assert [s.attack for s in found] == ["unlearndiffatk"] * 2 + ["unlearndiffatk, random tokens"] * 2
    assert [(s.prompt, s.seed) for s in found[:2]] == [(s.prompt, s.seed) for s in found[2:]]
    plain, *guesses = asked[-4:]
    assert gap(plain, erased.draw([s.prompt.text for s in found[:2]], [s.seed for s in found[:2]], steps=STEPS)) <= 1
    assert all(gap(one, other) > 0 for i, one in enumerate(guesses) for other in guesses[:i])
    assert gap(pictures(found[2:]), guesses[-1]) == 0


@pytest.mark.parametrize("name", NAMES)
def test_what_it_needs(erased: Flux1, base: Flux1, tmp_path: Path, name: str) -> None:
    with pytest.raises(StageError, match="attack the base model first"):
        attack(name, erased, task(tmp_path, "erased"), **ALONE[name])
    attack(name, base, task(tmp_path), **ALONE[name])
    with pytest.raises(StageError, match="needs somebody to see it"):
        attack(name, erased, task(tmp_path, "erased", shows=None), **SMALL)
    for wrong in ({"tokens": 0}, {"rate": 0.0}, {"decay": -1.0}, {"looks": 0}):
        with pytest.raises(OptionError, match="wanted numbers of at least 1"):
            attack(name, base, task(tmp_path), **SMALL | wrong)


def test_p4d_without_the_prompt_draws_from_tokens_alone(base: Flux1, erased: Flux1, tmp_path: Path) -> None:
    attack("p4d", base, task(tmp_path), **SMALL)
    kept, alone = (attack("p4d", erased, task(tmp_path, "erased"), **SMALL | {"keep": keep}) for keep in (True, False))
    assert gap(kept, alone) > 0
