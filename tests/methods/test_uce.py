from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training import NEON, SWORD

from safeflux.bake import bake, in_force, load_baked, parity
from safeflux.errors import OptionError
from safeflux.methods.uce import LAYERS, align, uce
from safeflux.models.flux1 import Flux1
from safeflux.train.task import Pair, TrainingTask
from safeflux.types import Prompt, TextCond, Weights

FREE = 1e-9  # a ridge that costs next to nothing


def few_keys(*, scale: float = 1.0) -> TrainingTask:
    """Two concepts and two retained prompts of six random tokens each: fewer than a key has numbers (128), so that all can be met."""
    random = torch.Generator().manual_seed(1)
    cond = {
        text: TextCond(scale * torch.randn(1, 6, 128, generator=random), scale * torch.randn(1, 128, generator=random))
        for text in ("sword", "shape", "neon", "", "cat", "tree")
    }
    pairs = {name: (Pair(Prompt(name, name, (name,), "direct"), anchor),) for name, anchor in (("sword", "shape"), ("neon", ""))}
    retain = tuple(Prompt(x, None, (x,), "general") for x in ("cat", "tree"))
    return TrainingTask((SWORD, NEON), pairs, retain, cond, {"sword": 1.0, "neon": 1.0}, steps=2, seed=0)


def outputs(model: Flux1, task: TrainingTask, path: str, text: str, tensors: Mapping[str, Tensor] | None = None) -> Tensor:
    """What the layer puts out for a prompt, bias and all; with ``tensors`` in place of its own."""
    layer = model.transformer.get_submodule(path)
    weight = (tensors or {}).get(f"{path}.weight", layer.weight)
    return torch.nn.functional.linear(LAYERS[path](task.cond[text]).float(), weight, layer.bias)


@pytest.mark.parametrize("path", LAYERS)
def test_concepts_land_on_their_anchors_and_the_rest_stays(model: Flux1, path: str) -> None:
    task = few_keys()
    found = uce(model, task, ridge=FREE).tensors
    for concept, anchor in (("sword", "shape"), ("neon", "")):
        before, wanted = outputs(model, task, path, concept), outputs(model, task, path, anchor)
        after = outputs(model, task, path, concept, found)
        wanted = wanted[align(before, wanted)]
        assert (after - wanted).norm() < 1e-4 * wanted.norm()
        assert (before - wanted).norm() > 0.5 * wanted.norm()  # there was a way to go
        assert model.transformer.get_submodule(path).bias.norm() > 1e-2 * wanted.norm()  # and missing by the bias would show
    for text in ("cat", "tree", "shape", ""):
        before = outputs(model, task, path, text)
        assert (outputs(model, task, path, text, found) - before).norm() < 1e-4 * before.norm()


def test_the_edited_model_draws_the_anchor_for_the_concept(model: Flux1) -> None:
    """All of it, whatever positions its tokens were put in: to FLUX a text is a set."""
    task = few_keys()
    noise = model.noise([1, 2])
    concepts, anchors, rest = (task.embed(texts) for texts in (("sword", "neon"), ("shape", ""), ("cat", "tree")))
    wanted, stays = model.sample(noise, anchors, steps=2), model.sample(noise, rest, steps=2)
    assert (model.sample(noise, concepts, steps=2) - wanted).abs().max() > 1e-2
    with in_force(model, uce(model, task, ridge=FREE)):
        assert (model.sample(noise, concepts, steps=2) - wanted).abs().max() < 1e-4
        assert (model.sample(noise, rest, steps=2) - stays).abs().max() < 1e-4


def test_the_order_of_text_tokens_is_nothing_to_flux(model: Flux1, task: TrainingTask) -> None:
    """What the choice of pairings rests on; the pooled vector, for control, is not."""
    noise, cond = model.noise([1, 2]), task.embed(["a sword at night", "a cat"])
    shuffled = TextCond(cond.sequence[:, torch.randperm(cond.sequence.shape[1])], cond.pooled)
    drawn = model.sample(noise, cond, steps=2)
    assert torch.allclose(model.sample(noise, shuffled, steps=2), drawn, atol=1e-5)
    assert not torch.allclose(model.sample(noise, TextCond(cond.sequence, cond.pooled.flip(0)), steps=2), drawn, atol=1e-5)


def test_pairing_moves_tokens_least() -> None:
    random = torch.Generator().manual_seed(0)
    rows, others = torch.randn(2, 5, 3, generator=random)
    order = torch.tensor([3, 1, 0, 2, 4])
    assert torch.equal(rows[order][align(rows, rows[order])], rows)
    costs = [float((rows - others[list(p)]).square().sum()) for p in itertools.permutations(range(5))]
    found = align(rows, others)
    assert sorted(found.tolist()) == list(range(5))
    assert float((rows - others[found]).square().sum()) == pytest.approx(min(costs))


def test_nothing_to_erase_changes_nothing(model: Flux1, task: TrainingTask) -> None:
    for name, value in uce(model, task, erase=0.0).tensors.items():
        assert torch.equal(value, model.transformer.state_dict()[name])


def test_the_model_is_left_alone_and_the_same_task_gives_the_same_weights(model: Flux1, task: TrainingTask) -> None:
    before = {name: value.clone() for name, value in model.transformer.state_dict().items()}
    a, b = uce(model, task).tensors, uce(model, task).tensors
    assert all(torch.equal(a[n], b[n]) and not torch.equal(a[n], before[n]) for n in a)
    assert set(a) == {"context_embedder.weight", "time_text_embed.text_embedder.linear_1.weight"}
    assert all(torch.equal(value, before[name]) for name, value in model.transformer.state_dict().items())


def test_a_ridge_means_the_same_for_keys_of_any_size(model: Flux1) -> None:
    small, large = (uce(model, few_keys(scale=scale), ridge=0.03).tensors for scale in (1.0, 50.0))
    assert all(torch.allclose(small[n], large[n], atol=1e-6) for n in small)
    dear = uce(model, few_keys(), ridge=3.0).tensors
    for name in small:
        base = model.transformer.state_dict()[name]
        assert (dear[name] - base).norm() < 0.5 * (small[name] - base).norm()


def test_weights_trade_erasing_for_keeping(model: Flux1, task: TrainingTask) -> None:
    path = "context_embedder"

    def gaps(edit: Weights) -> tuple[float, float]:
        near = [
            (outputs(model, task, path, p.prompt.text, edit.tensors), outputs(model, task, path, p.anchor))
            for pairs in task.pairs.values()
            for p in pairs
        ]
        stay = [(outputs(model, task, path, p.text, edit.tensors), outputs(model, task, path, p.text)) for p in task.retain]
        return sum(float((a - b[align(a, b)]).square().sum()) for a, b in near), sum(float((a - b).square().sum()) for a, b in stay)

    prices = ((0.0, 1.0), (0.1, 1.0), (1.0, 1.0), (1.0, 0.0))
    erased, kept = zip(*(gaps(uce(model, task, erase=erase, preserve=preserve)) for erase, preserve in prices), strict=True)
    assert list(erased) == sorted(erased, reverse=True)
    assert list(kept) == sorted(kept)
    assert erased[2] < 0.5 * erased[0]
    assert kept[2] < 0.5 * kept[3]


def test_more_prompts_of_one_kind_weigh_no_more(model: Flux1) -> None:
    task = few_keys()
    more = replace(task, pairs={"sword": task.pairs["sword"] * 5, "neon": task.pairs["neon"]}, retain=task.retain)
    a, b = uce(model, task, preserve=0.0).tensors, uce(model, more, preserve=0.0).tensors
    assert all(torch.allclose(a[n], b[n], atol=1e-5) for n in a)


def test_the_baked_model_is_the_edited_one(model: Flux1, task: TrainingTask, tiny: Path, tmp_path: Path) -> None:
    edit = uce(model, task)
    bake(tiny, edit, tmp_path / "baked")
    assert parity(model, load_baked(tiny, tmp_path / "baked"), edit, task)["max_relative_error"] <= 1e-5


@pytest.mark.parametrize("options", [{"ridge": 0.0}, {"erase": -1.0}, {"preserve": -0.1}, {"ridge": float("nan")}])
def test_weights_that_make_no_sense_are_refused(model: Flux1, task: TrainingTask, options: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="wanted a ridge above 0"):
        uce(model, task, **options)
