"""What training brings back of a baked erasure, by layout: five steps on everything, and a LoRA over feed-forward layers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from test_bake import random_mask
from torch import Tensor

from safeflux.bake import bake, load_baked
from safeflux.edits import placed
from safeflux.layouts import DENSE, EMPTY, Layout
from safeflux.models.flux1 import Flux1
from safeflux.types import Masks

LAYOUTS = {"dense": DENSE, "decoys": Layout(decoys=True, secret=b"s"), "removed": Layout("removed", secret=b"s")}
FEED = ["ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2", "proj_mlp", "proj_out"]


@pytest.fixture(scope="module")
def edit(tiny: Path) -> Masks:
    return Masks({name: keep for name, keep in random_mask(tiny, closed=0.3).keep.items() if "attn" not in name})


def trained(model: Flux1, base: Flux1) -> None:
    """Five steps towards what the base model draws, by whoever has pictures of it."""
    noise, cond = base.noise(range(4)), base.encode(["a sword"] * 4)
    sigma = torch.tensor(0.7)
    with torch.no_grad():
        wanted = base.velocity(noise, sigma, cond)
    tool = torch.optim.AdamW([p for p in model.transformer.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    for _ in range(5):
        tool.zero_grad()
        (model.velocity(noise, sigma, cond) - wanted).square().mean().backward()  # type: ignore[no-untyped-call]
        tool.step()


def slots_of(tiny: Path, edit: Masks, layout: Layout, model: Flux1) -> dict[str, tuple[Tensor, Tensor]]:
    """The input rows and output columns that stand in slots without a neuron of the base, by site."""
    found = {}
    for name, slot in placed(edit, tiny / "transformer", layout).items():
        site, empty = model.sites()[name], (slot == EMPTY).nonzero().flatten()
        up, down = (model.transformer.get_submodule(str(path)) for path in (site.reads, site.writes))
        found[name] = up.weight[empty], down.weight[:, site.column + empty]
    return found


@pytest.mark.parametrize("name", LAYOUTS)
def test_five_steps_of_fine_tuning(tiny: Path, tmp_path: Path, edit: Masks, name: str) -> None:
    """Neurons that are zero on both sides have no gradient; decoys are neurons to learn with; modulation outputs grow again."""
    bake(tiny, edit, tmp_path, LAYOUTS[name])
    base, model = Flux1.load(tiny), load_baked(tiny, tmp_path)
    before = {site: tuple(part.detach().clone() for part in parts) for site, parts in slots_of(tiny, edit, LAYOUTS[name], model).items()}
    model.transformer.requires_grad_(True)
    trained(model, base)
    after = slots_of(tiny, edit, LAYOUTS[name], model)
    if name == "dense":
        assert not any(part.any() for parts in after.values() for part in parts)
    elif name == "decoys":
        assert not any(torch.equal(*pair) for site in before for pair in zip(before[site], after[site], strict=True))
    else:
        assert all(part.numel() == 0 for parts in after.values() for part in parts)
    gone = ~edit.keep["transformer_blocks.0.norm1.shift_msa"]
    assert model.transformer.transformer_blocks[0].norm1.linear.weight[: len(gone)][gone].abs().max() > 0


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_lora_over_feed_forward_layers(tiny: Path, tmp_path: Path, edit: Masks, name: str) -> None:
    """It writes into the slots that are there, zeros or decoys; into neurons that were cut out it cannot."""
    bake(tiny, edit, tmp_path, LAYOUTS[name])
    base, model = Flux1.load(tiny), load_baked(tiny, tmp_path)
    torch.manual_seed(0)
    model.transformer.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=FEED))
    trained(model, base)
    added = []
    for site, slot in placed(edit, tiny / "transformer", LAYOUTS[name]).items():
        if site != "time_text_embed.text_embedder":
            layer = model.transformer.get_submodule(str(model.sites()[site].reads))
            added.append((layer.lora_B["default"].weight @ layer.lora_A["default"].weight)[slot == EMPTY])
    assert added
    for rows in added:
        assert bool(rows.any()) == (name != "removed")
