from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training import small_task

from safeflux.errors import OptionError
from safeflux.models.flux1 import Flux1
from safeflux.models.sites import Site, gated
from safeflux.train.saliency import wanda
from safeflux.train.task import TrainingTask

TEXTS, SEEDS = ("a sword at night", "a cat", ""), (5, 6, 7)
ONE_OF_EACH = (
    "time_text_embed.text_embedder", "transformer_blocks.1.ff_context", "single_transformer_blocks.0.proj_mlp",
    "transformer_blocks.0.norm1.gate_mlp", "single_transformer_blocks.1.norm.scale_msa",
    "transformer_blocks.0.attn.to_add_out", "single_transformer_blocks.1.attn",
)  # fmt: skip


@pytest.fixture
def model(tiny: Path) -> Flux1:
    return Flux1.load(tiny)


@pytest.fixture
def task(model: Flux1) -> TrainingTask:
    return small_task(model)


@torch.no_grad()
def by_hand(model: Flux1, task: TrainingTask, site: Site, step: int) -> list[float]:
    """The definition, unit by unit, from the whole activations of one step."""
    seen: list[Tensor] = []
    module = model.transformer.get_submodule(site.gate)
    handle = module.register_forward_hook(lambda _m, inputs, out: seen.append(inputs[0] if site.kind == "head" else out))
    x, sigmas = model.noise(SEEDS), model.sigmas(task.steps)
    for now, after in pairwise(sigmas):
        x = x + (after - now) * model.velocity(x, now, task.embed(TEXTS))
    handle.remove()
    rows = seen[step].reshape(-1, seen[step].shape[-1])
    weight = model.transformer.get_submodule(site.writes).weight if site.writes else None
    scores = []
    for unit in range(site.units):
        total = 0.0
        for number in range(unit * site.width, (unit + 1) * site.width):
            reads = 1.0 if weight is None else float(weight[:, site.column + number].norm())
            total += float(rows[:, site.row + number].square().mean()) * reads**2
        scores.append(total**0.5)
    return scores


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_scores_are_what_the_definition_gives(model: Flux1, task: TrainingTask, name: str) -> None:
    site = model.sites()[name]
    found = wanda(model, task, TEXTS, {name: site}, seeds=SEEDS, batch=2)[name]
    assert found.shape == (task.steps, site.units)
    for step in range(task.steps):
        assert found[step].tolist() == pytest.approx(by_hand(model, task, site, step), rel=1e-4)


def test_a_planted_activation_is_scored_as_planted(model: Flux1, task: TrainingTask) -> None:
    site = model.sites()["transformer_blocks.0.ff"]
    with torch.no_grad():
        model.transformer.get_parameter(f"{site.reads}.weight")[3] = 0
        model.transformer.get_parameter(f"{site.reads}.bias")[3] = 10.0  # GELU leaves 10 as it is
        model.transformer.get_parameter(f"{site.writes}.weight")[:, 3] = 0
        model.transformer.get_parameter(f"{site.writes}.weight")[:2, 3] = torch.tensor([3.0, 4.0])
    found = wanda(model, task, TEXTS, {site.name: site}, seeds=SEEDS)[site.name]
    assert found[:, 3].tolist() == pytest.approx([50.0] * task.steps)


def test_the_batch_does_not_matter_and_all_sites_go_at_once(model: Flux1, task: TrainingTask) -> None:
    sites, told = model.sites(), list[int]()
    one = wanda(model, task, TEXTS, sites, seeds=SEEDS, batch=1, progress=told.append)
    all_of_them = wanda(model, task, TEXTS, sites, seeds=SEEDS, batch=3)
    assert told == [1, 2, 3]
    assert one.keys() == all_of_them.keys() == sites.keys()
    for name, site in sites.items():
        assert one[name].shape == (task.steps, site.units)
        assert torch.allclose(one[name], all_of_them[name], rtol=1e-4, atol=1e-6), name


def test_gates_in_force_are_seen_and_hooks_do_not_stay(model: Flux1, task: TrainingTask) -> None:
    site = model.sites()["transformer_blocks.0.ff"]
    gate = torch.ones(site.units)
    gate[::2] = 0
    with gated(model.transformer, model.sites(), {site.name: gate}):
        found = wanda(model, task, TEXTS, {site.name: site}, seeds=SEEDS)[site.name]
    assert ((found > 0) == gate.bool()).all()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.transformer.modules())


@pytest.mark.parametrize(("texts", "seeds"), [((), ()), (TEXTS, (1, 2))])
def test_prompts_without_seeds_are_refused(model: Flux1, task: TrainingTask, texts: tuple[str, ...], seeds: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match=f"{len(texts)} prompts and {len(seeds)} noise seeds"):
        wanda(model, task, texts, model.sites(), seeds=seeds)
