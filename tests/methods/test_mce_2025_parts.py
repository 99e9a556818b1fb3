"""The baseline's gates, gradient and merge: bounded noise, new gates in every pass, nine tenths of every layer."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from safeflux.methods import mce_2025 as method
from safeflux.methods.mce_2025 import Example, Recipe, drawing, examples, layers_of, mce_2025, merge, sweep, top
from safeflux.models.flux1 import Flux1
from safeflux.models.sites import Site, choose, gated
from safeflux.train.rollout import rollout
from safeflux.train.task import TrainingTask

RECIPE = Recipe(epochs=5, beta=0.1, rate=0.5, decay=1e-2, initial=3.0, temperature=0.83, eps=0.5, accumulate=4, steps=5, noise_seed=48)
FF = "transformer_blocks.0.ff"


# Gates


def gates_of(recipe: Recipe, units: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """One draw for ``units`` gates, and the gradient of their sum."""
    logit = torch.full((units,), recipe.initial, requires_grad=True)
    layers = {"a": [Site("a", "neuron", "ff", units, "a", "a", "b")]}
    gate = drawing(layers, {"a": logit}, recipe, torch.Generator().manual_seed(seed))()["a"]
    (grad,) = torch.autograd.grad(gate.sum(), logit)
    return gate.detach(), grad


def test_few_gates_have_a_gradient() -> None:
    """At logit 3 and eps 0.5 only u < 0.0341 leaves a gate below 1. The control: nearly unbounded noise leaves one in four."""
    n = 200_000
    gate, grad = gates_of(RECIPE, n)
    edge = RECIPE.temperature * math.log(11) - RECIPE.initial  # noise at which the stretched gate is 1
    wanted = (1.5 * math.exp(edge) - 0.5) / (1 + math.exp(edge))
    assert wanted == pytest.approx(0.034, abs=0.001)
    share = float((grad != 0).float().mean())
    assert share == pytest.approx(wanted, abs=4 * math.sqrt(wanted / n))
    assert int(((grad != 0) != (gate < 1)).sum()) < 5  # but for rounding at the edge
    _, free = gates_of(replace(RECIPE, eps=1e-6), n)
    assert float((free != 0).float().mean()) == pytest.approx(0.26, abs=0.01)


def test_noise_is_bounded() -> None:
    """|log(u + .5) - log(1.5 - u)| is at most log 3, so no draw moves a gate of logit 3 below 0.9, or one of -3 above 0.1."""
    most = math.log(3)
    for initial in (3.0, 0.0, -3.0):
        gate, _ = gates_of(replace(RECIPE, initial=initial), 100_000)
        low, high = (min(1.0, max(0.0, 1.2 / (1 + math.exp(-(initial + sign * most) / RECIPE.temperature)) - 0.1)) for sign in (-1, 1))
        assert low - 1e-6 <= gate.min() < low + 0.01
        assert high - 0.01 < gate.max() <= high + 1e-6
    free, _ = gates_of(replace(RECIPE, eps=1e-6), 100_000)
    assert free.min() == 0


def seen_gates(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """Every draw of gates by site from now on, in order."""
    seen: list[dict[str, Tensor]] = []
    real = method.drawing

    def spied(*args: Any) -> Any:
        draw = real(*args)

        def noted() -> dict[str, Tensor]:
            seen.append(draw())
            return seen[-1]

        return noted

    monkeypatch.setattr(method, "drawing", spied)
    return seen


def test_gates_are_drawn_anew_in_every_pass(model: Flux1, alone: TrainingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two forward passes a step and sample, no two with the same gates; a head has one gate for both streams."""
    seen = seen_gates(monkeypatch)
    mce_2025(model, alone, epochs=1, train_steps=3, accumulate=100)
    assert len(seen) == 2 * 3 * 4
    for n in range(len(seen)):
        assert not any(torch.equal(seen[n][FF], other[FF]) for other in seen[:n])
    for drawn in seen:
        assert torch.equal(drawn["transformer_blocks.1.attn.to_out.0"], drawn["transformer_blocks.1.attn.to_add_out"])
    heads = torch.cat([drawn["transformer_blocks.1.attn.to_add_out"] for drawn in seen])
    assert (heads < 1).any(), "heads get noise"


def one_sample(model: Flux1, task: TrainingTask, *, eps: float, seed: int) -> tuple[dict[str, Tensor], Any, Tensor, Example]:
    sites = choose(model.sites(), (*method.TRAINED, *method.NOISY))
    layers = layers_of(sites)
    recipe = replace(RECIPE, eps=eps, initial=1.0)
    logits = {name: method._logit(parts, recipe, model.device) for name, parts in layers.items()}
    noise = model.noise([48])
    return logits, drawing(layers, logits, recipe, torch.Generator().manual_seed(seed)), noise, examples(model, task, 0, recipe, noise)[0]


def test_the_sweep_is_the_gradient_only_where_gates_do_not_change(model: Flux1, task: TrainingTask) -> None:
    """Without noise (an eps beyond all u) it equals a backward pass through the whole rollout; with noise it does not, as described."""
    sites = choose(model.sites(), (*method.TRAINED, *method.NOISY))
    differ = []
    for eps in (1e9, 0.5):
        logits, draw, noise, example = one_sample(model, task, eps=eps, seed=0)
        trained = [logit for logit in logits.values() if logit.requires_grad]
        cond = task.embed([example.text])
        with gated(model.transformer, sites, draw):
            sweep(model, trained, noise, cond, example, 3)
        with gated(model.transformer, sites, draw()):
            end = rollout(model, noise, cond, steps=3, recompute=False)
        whole = torch.autograd.grad((end - example.target).square().mean(), trained)
        a, b = (torch.cat(list(part)) for part in ([logit.grad for logit in trained], whole))  # type: ignore[arg-type]
        differ.append(float((a - b).norm() / b.norm()))
    assert differ[0] < 1e-3
    assert differ[1] > 0.1


# Merge


def logits_of(seed: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {name: torch.randn(n, generator=random) + 2 for name, n in (("a", 100), ("b", 192))}


def test_the_merge_keeps_nine_tenths_of_each_layer_and_multiplies() -> None:
    each = [logits_of(s) for s in (1, 2)]
    alone = [{name: top(logit, 0.9) for name, logit in one.items()} for one in each]
    for one in alone:
        assert {name: int(gate.sum()) for name, gate in one.items()} == {"a": 90, "b": 172}
    merged = merge(each, 0.9)
    for name in merged:
        assert torch.equal(merged[name], alone[0][name] & alone[1][name])
        assert merged[name].sum() < alone[0][name].sum()
    assert all(gate.all() for gate in merge(each, 1.0).values())


def test_one_concept_alone_is_judged_by_the_sign() -> None:
    logits = logits_of(1) | {"a": torch.tensor([3.0, 0.0, -1.0, 1e-3])}
    assert merge([logits], 0.9)["a"].tolist() == [True, False, False, True]
    assert torch.equal(merge([logits], 0.9)["b"], logits["b"] > 0)


def test_a_layer_that_learned_nothing_loses_its_last_tenth() -> None:
    assert top(torch.full((20,), 3.0), 0.9).nonzero().flatten().tolist() == list(range(18))
    closed = torch.tensor([-5.0, -1.0, -9.0, 2.0])  # relu makes the closed ones equal, so some of them come back
    assert top(closed, 0.75).tolist() == [True, True, False, True]


def test_all_chunks_of_an_adaln_are_one_layer(model: Flux1, task: TrainingTask) -> None:
    layers = layers_of(choose(model.sites(), (*method.TRAINED, *method.NOISY)))
    assert sorted(len(sites) for sites in layers.values()) == [1, 1, 1, 1, 2, 2, 6, 6]
    found = mce_2025(model, task, epochs=1, train_steps=2, accumulate=2)
    for block in (0, 1):
        chunks = [gate for name, gate in found.keep.items() if name.startswith(f"transformer_blocks.{block}.norm1_context.")]
        assert len(chunks) == 6
        units = sum(len(gate) for gate in chunks)
        kept = sum(int(gate.sum()) for gate in chunks)
        assert units - 2 * (units - int(0.9 * units)) <= kept <= int(0.9 * units)
