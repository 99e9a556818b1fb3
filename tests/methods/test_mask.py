from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training import Script, small_task

from safeflux.bake import in_force
from safeflux.errors import OptionError, StageError
from safeflux.methods import mask as method
from safeflux.methods.mask import mask
from safeflux.models.flux1 import Flux1
from safeflux.models.sites import gated
from safeflux.train import goals
from safeflux.train.held_out import HeldOut, attacked
from safeflux.train.rollout import rollout
from safeflux.train.state import State
from safeflux.types import JOURNAL, Masks, Prompt, Shows

SHORT: dict[str, Any] = {"updates": 20, "batch": 8, "rate": 0.5}


def closed(found: Masks) -> int:
    return sum(int((~keep).sum()) for keep in found.keep.values())


def seen_until(monkeypatch: pytest.MonkeyPatch, units: int) -> None:
    """Concepts are seen in every picture until so many units are closed; what must stay always is."""

    def within(self: HeldOut, gates: dict[str, torch.Tensor], bounds: dict[str, float]) -> dict[str, float] | None:
        enough = sum(int((gate == 0).sum()) for gate in gates.values()) >= units
        broken = not enough and any(bounds.get(line.name, 1.0) < 1 for line in self.lines if not line.keep)
        return None if broken else {line.name: float(line.keep or not enough) for line in self.lines}

    monkeypatch.setattr(HeldOut, "within", within)


def journal(scratch: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((scratch / JOURNAL).read_text())
    return read


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goals, "LOOK", 2)
    monkeypatch.setattr(goals, "KEPT", 2)
    monkeypatch.setattr(goals, "SURE", 3)


def erased(model: Flux1) -> Script:
    """No mask shows a concept, and all that must stay is always there."""
    return Script(model, lambda prompt: prompt.concept is None)


def test_training_brings_concepts_nearer_to_their_anchors(model: Flux1, tmp_path: Path) -> None:
    mask(model, small_task(model), updates=40, batch=12, rate=0.5, beta=0.1, budget=0.5, scratch=tmp_path)
    rows = journal(tmp_path)["journal"]
    first, last = (row["losses"]["sword"] + row["losses"]["neon"] for row in (rows[0], rows[-1]))
    assert last < 0.9 * first


def test_what_training_pictures_lose_is_trained_on_more_often(model: Flux1, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what the last of three general prompts asks for, nothing is left in any picture."""
    task, drawn = small_task(model), Counter[str]()

    def gone(_model: Flux1, _shows: Shows, prompts: Sequence[Prompt], made: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
        assert len(made) == len(base) == len(prompts)
        drawn.update(p.text for p in prompts)
        return torch.tensor([float(p == task.retain[-1]) for p in prompts])

    monkeypatch.setattr(method, "lost", gone)
    mask(model, task, updates=40, batch=8)
    *others, lost = (drawn[p.text] for p in task.retain[1:])
    assert lost > 2 * max(others)


@pytest.mark.parametrize("radius", [0.0, 0.1])
def test_it_stops_as_soon_as_every_limit_is_kept_for_sure(model: Flux1, tmp_path: Path, radius: float) -> None:
    """And attacks on that mask fail, if there are any."""
    mask(model, small_task(model, shows=erased(model)), updates=100, batch=8, radius=radius, scratch=tmp_path)
    found = journal(tmp_path)
    assert [row["update"] for row in found["journal"]] == [10, 20]
    assert found["unmet"] == []
    assert (attacked("sword") in found["rates"]) == (attacked("sword") in found["journal"][-1]["sure"]) == (radius > 0)


def test_limits_that_cannot_be_met_are_named_with_the_best_that_was_reached(model: Flux1, tmp_path: Path) -> None:
    """The detector sees swords whatever is done; the weight of swords rises, that of what is kept does not: neon is gone at no cost."""
    seen = Script(model, lambda prompt: prompt.concept != "neon")
    mask(model, small_task(model, shows=seen), **SHORT, scratch=tmp_path)
    found = journal(tmp_path)
    assert found["unmet"] == ["sword: wanted at most 0.04, reached 1"]
    first, last = (row["weights"] for row in (found["journal"][0], found["journal"][-1]))
    assert last["sword"] > 1.5 * first["sword"]
    assert last["neon"] == first["neon"]
    assert last["what must stay"] < first["what must stay"]


def test_beta_fixes_what_keeping_weighs(model: Flux1, tmp_path: Path) -> None:
    lost = Script(model, lambda prompt: False)
    mask(model, small_task(model, shows=lost), **SHORT, beta=7.0, scratch=tmp_path)
    weights = [row["weights"] for row in journal(tmp_path)["journal"]]
    assert [w["what must stay"] + w["neighbours of sword"] for w in weights] == pytest.approx([7.0, 7.0])


def test_same_task_same_mask(model: Flux1, monkeypatch: pytest.MonkeyPatch) -> None:
    seen_until(monkeypatch, 7)
    a, b = (mask(model, small_task(model), **SHORT) for _ in range(2))
    assert closed(a) > 0
    assert all(torch.equal(a.keep[n], b.keep[n]) for n in a.keep)


def test_no_more_units_are_closed_than_the_limits_need(model: Flux1, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen_until(monkeypatch, 7)
    found = mask(model, small_task(model), **SHORT, scratch=tmp_path)
    assert journal(tmp_path)["unmet"] == []
    assert closed(found) == 7


def test_with_nothing_to_erase_the_mask_is_all_ones(model: Flux1) -> None:
    found = mask(model, replace(small_task(model), concepts=(), pairs={}, held_out={}))
    assert closed(found) == 0
    assert {name for name, site in model.sites().items() if site.kind != "head"} == set(found.keep)


def test_what_merged_releases_closed_begins_closed_and_may_come_back(model: Flux1, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Their product is measured, too, to stand beside what training together comes to."""
    seen_until(monkeypatch, 7)
    begun = {"transformer_blocks.0.ff": torch.arange(model.sites()["transformer_blocks.0.ff"].units) < 12}
    found = mask(model, replace(small_task(model), begun=begun), **SHORT, sites=("ff", "ff_context"), scratch=tmp_path)
    told = journal(tmp_path)
    assert told["journal"][0]["rates"]["units closed"] > 0
    assert told["product"]["sword"] == 0
    assert told["product"]["units closed"] == pytest.approx(12 / sum(len(keep) for keep in found.keep.values()))
    assert closed(found) == 7


@pytest.mark.parametrize("look", [1, 2])
def test_an_interrupted_training_ends_with_the_same_mask(model: Flux1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: int) -> None:
    seen_until(monkeypatch, 7)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = mask(model, small_task(model), **SHORT, scratch=tmp_path / "whole")
    save, calls = State.save, 0

    def dies(self: State, kept: Any, done: int) -> None:
        nonlocal calls
        save(self, kept, done)
        calls += 1
        if calls == look:
            raise KeyboardInterrupt

    monkeypatch.setattr(State, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        mask(model, small_task(model), **SHORT, scratch=tmp_path / "killed")
    resumed = mask(model, small_task(model), **SHORT, scratch=tmp_path / "killed")
    assert all(torch.equal(whole.keep[n], resumed.keep[n]) for n in whole.keep)
    assert journal(tmp_path / "whole") == journal(tmp_path / "killed")


def test_the_binary_masks_rollout_is_the_gated_one(model: Flux1, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured while training (gates of 0 and 1) is what the edit does."""
    task = small_task(model)
    seen_until(monkeypatch, 7)
    found = mask(model, task, **SHORT)
    assert closed(found) > 0
    noise, cond = model.noise([5]), task.embed(["a sword at night"])
    with gated(model.transformer, model.sites(), {name: keep.float() for name, keep in found.keep.items()}):
        trained = rollout(model, noise, cond, steps=2, recompute=True)
    with in_force(model, found):
        assert torch.equal(model.sample(noise, cond, steps=2), trained)


def test_what_an_earlier_release_closed_stays_closed(model: Flux1, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its site is not among those chosen, and where reopening would cost nothing."""
    seen_until(monkeypatch, 7)
    shut = {name: torch.arange(model.sites()[name].units) < 5 for name in ("transformer_blocks.0.ff", "transformer_blocks.1.attn.to_out.0")}
    shut["transformer_blocks.1.attn.to_out.0"] = torch.tensor([True, False])
    found = mask(model, replace(small_task(model), shut=shut), **SHORT, sites=("ff_context",))
    for name, gone in shut.items():
        assert not found.keep[name][gone].any()
    assert closed(found) >= 6


def test_recomputation_gives_the_same_losses(model: Flux1, tmp_path: Path) -> None:
    seen = []
    for recompute in (False, True):
        (tmp_path / str(recompute)).mkdir()
        mask(model, small_task(model), updates=1, batch=8, recompute=recompute, scratch=tmp_path / str(recompute))
        seen.append(journal(tmp_path / str(recompute))["journal"][0]["losses"])
    assert seen[0] == pytest.approx(seen[1], rel=1e-4)


def test_only_the_chosen_sites_are_cut(model: Flux1) -> None:
    found = mask(model, small_task(model), updates=1, batch=4, sites=("head",))
    assert {model.sites()[n].kind for n in found.keep} == {"head"}
    found = mask(model, small_task(model), updates=1, batch=4, sites=("ff", "norm1.gate_mlp", "norm1_context"))
    groups = {model.sites()[n].group for n in found.keep}
    assert "ff_context" not in groups
    assert {g for g in groups if g.startswith("norm1.")} == {"norm1.gate_mlp"}
    assert sum(g.startswith("norm1_context.") for g in groups) == 6


@pytest.mark.parametrize("sites", [(), ("neuron", "bones")])
def test_unknown_sites_are_refused(model: Flux1, sites: tuple[str, ...]) -> None:
    with pytest.raises(OptionError, match="neuron, modulation, head"):
        mask(model, small_task(model), sites=sites)


def test_a_concept_the_base_model_does_not_draw_cannot_be_judged(model: Flux1) -> None:
    blind = Script(model, base=lambda prompt: prompt.concept != "sword")
    with pytest.raises(StageError, match="draws none of sword"):
        mask(model, small_task(model, shows=blind), **SHORT)
