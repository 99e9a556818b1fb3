"""One double and one single block at FLUX.1's full width (24 heads of 128): trained a little, baked, compared."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import make_tiny, transformer
from training import small_task

from safeflux.bake import bake, load_baked, parity
from safeflux.methods.mask import mask
from safeflux.models.flux1 import Flux1
from safeflux.train import gates, goals
from safeflux.train.held_out import HeldOut


@pytest.mark.slow
def test_a_block_of_each_kind_at_full_width(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """About 2 GB of weights; few pictures are looked at, the learning rate is absurd, and the mask is that of the logits as they are,
    not of their running mean, so that two updates close some gates."""
    monkeypatch.setattr(gates, "_SPAN", 1)
    monkeypatch.setattr(gates, "_LATEST", 0.0)
    monkeypatch.setattr(goals, "LOOK", 1)
    monkeypatch.setattr(goals, "SURE", 1)
    directory = make_tiny(tmp_path, model=transformer(blocks=1, heads=24, head_dim=128))
    base = Flux1.load(directory)
    sites = base.sites()
    assert {s.units for s in sites.values() if s.kind == "neuron"} == {12_288, 3072}
    assert {s.units for s in sites.values() if s.kind == "modulation"} == {3072}
    assert {s.units for s in sites.values() if s.kind == "head"} == {24}
    task = small_task(base)

    def within(self: HeldOut, by_site: dict[str, torch.Tensor], bounds: dict[str, float]) -> dict[str, float] | None:
        """A detector that sees concepts until something is closed."""
        shown = all(bool(gate.all()) for gate in by_site.values())
        broken = shown and any(bounds.get(line.name, 1.0) < 1 for line in self.lines if not line.keep)
        return None if broken else {line.name: float(line.keep or shown) for line in self.lines}

    monkeypatch.setattr(HeldOut, "within", within)
    edit = mask(base, task, updates=2, batch=4, rate=5.0, recompute=True)
    assert any((~keep).any() for keep in edit.keep.values())
    bake(directory, edit, tmp_path / "baked")
    assert parity(base, load_baked(directory, tmp_path / "baked"), edit, task)["max_relative_error"] <= 1e-5
