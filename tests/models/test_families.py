"""Every family: a masked model, one with zeros baked into it and one with the neurons cut out are the same model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import AutoModel
from families import DOCUMENT, EXAMPLE, TINY, Tiny, document, drawn, make, read
from torch import Tensor, nn

import safeflux
from safeflux.bake import bake
from safeflux.delta import apply
from safeflux.edits import empty_transformer, read_mask, save_edit, weights
from safeflux.families import FAMILIES
from safeflux.families.flux2 import FLUX2
from safeflux.layouts import DENSE, Layout
from safeflux.models.declared import find_sites
from safeflux.models.sites import Site, gated
from safeflux.plan.base import directory_digest
from safeflux.types import Masks

LAYOUTS = {
    "removed": Layout("removed", secret=b"s"),
    "multiple": Layout("removed", multiple=16, secret=b"s"),
    "decoys": Layout(decoys=True),
}
FED = {  # what a modulation gates last of all: the feed-forward layer of its stream
    "norm1": "ff", "norm1_context": "ff_context", "img_mod": "img_mlp", "txt_mod": "txt_mlp", "adaLN_modulation": "feed_forward",
    "double_stream_modulation_img": "ff", "double_stream_modulation_txt": "ff_context",
}  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated")  # diffusers' own Chroma uses it


@pytest.fixture(scope="module", params=TINY, ids=str)
def tiny(request: pytest.FixtureRequest) -> Tiny:
    found: Tiny = request.param
    return found


@pytest.fixture(scope="module")
def base(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tiny, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def mask(base: Path) -> Masks:
    """A third of everything, and all neurons of one site."""
    random, sites = torch.Generator().manual_seed(1), find_sites(read(base))
    keep = {name: torch.rand(site.units, generator=random) >= 1 / 3 for name, site in sites.items()}
    first = next(name for name, site in sites.items() if site.kind == "neuron" and site.group != "text_embedder")
    return Masks(keep | {first: torch.zeros(sites[first].units, dtype=torch.bool)})


def masked(root: Path, tiny: Tiny, keep: dict[str, Tensor]) -> Tensor:
    model = read(root)
    with gated(model, find_sites(model), {name: one.float() for name, one in keep.items()}):
        return drawn(model, tiny)


def near(found: Tensor, wanted: Tensor) -> bool:
    return float((found - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


@torch.no_grad()
def zero(model: nn.Module, site: Site) -> None:
    """Every third unit's weights, as the site describes them."""
    for unit in range(0, site.units, 3):
        for name in site.inputs:
            for row in site.rows:
                model.get_parameter(name)[row + unit] = 0
        if site.writes:
            start = site.column + unit * site.width
            model.get_submodule(site.writes).weight[:, start : start + site.width] = 0


def test_a_closed_gate_equals_zero_weights_at_every_site(tiny: Tiny, base: Path) -> None:
    """And does something, unless it is of a stream that ends there."""
    model = read(base)
    untouched, before, unheard = drawn(model, tiny), {k: v.clone() for k, v in model.state_dict().items()}, set()
    for name, site in find_sites(model).items():
        gate = (torch.arange(site.units) % 3 > 0).float()
        with gated(model, find_sites(model), {name: gate}):
            wanted = drawn(model, tiny)
        zero(model, site)
        assert torch.equal(drawn(model, tiny), wanted), name
        model.load_state_dict(before)
        if torch.equal(wanted, untouched):
            unheard.add(name)
    assert unheard == {f"transformer_blocks.1.{name}" for name in tiny.unheard}


def test_masked_is_baked_bit_by_bit_and_read_back(tiny: Tiny, base: Path, mask: Masks, tmp_path: Path) -> None:
    bake(base, mask, tmp_path, DENSE)
    wanted = masked(base, tiny, mask.keep)
    assert torch.equal(drawn(read(tmp_path), tiny), wanted)
    assert not near(drawn(read(base), tiny), wanted)
    assert type(read(tmp_path)) is getattr(diffusers, tiny.family.transformer)
    same(read_mask(base / "transformer", tmp_path / "transformer"), mask)


def same(found: Masks, mask: Masks) -> None:
    wanted = {name: keep for name, keep in mask.keep.items() if not keep.all()}
    assert found.keep.keys() == wanted.keys()
    assert all(torch.equal(keep, wanted[name]) for name, keep in found.keep.items())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_masked_is_removed_and_read_back(tiny: Tiny, base: Path, mask: Masks, tmp_path: Path, layout: str) -> None:
    bake(base, mask, tmp_path, LAYOUTS[layout])
    model, sites = read(tmp_path), find_sites(read(base))
    assert near(drawn(model, tiny), masked(base, tiny, mask.keep))
    same(read_mask(base / "transformer", tmp_path / "transformer"), mask)
    for name, site in find_sites(model).items():
        if layout == "removed" and site.kind == "neuron":
            assert site.units == int(mask.keep[name].sum())
            assert len(model.get_parameter(site.inputs[0])) == site.row + site.halves * site.units
        elif layout == "decoys":
            assert site == sites[name]


@pytest.mark.parametrize("layout", ["dense", *LAYOUTS])
def test_no_number_of_an_erased_neuron_is_left(base: Path, mask: Masks, tmp_path: Path, layout: str) -> None:
    """Of random weights hardly any two are the same, so a number tells whose it was."""
    bake(base, mask, tmp_path, LAYOUTS.get(layout, DENSE))
    before, after = (weights(root / "transformer") for root in (base, tmp_path))
    for name, site in find_sites(read(base)).items():
        if site.kind == "neuron":
            gone = (~mask.keep[name]).nonzero().flatten()
            lost = [before[one]()[row + gone] for one in site.inputs if one.endswith("weight") for row in site.rows]
            left = [after[one]() for one in site.inputs if one.endswith("weight") for _ in site.rows]
            lost, left = [*lost, before[f"{site.writes}.weight"]()[:, site.column + gone].T], [*left, after[f"{site.writes}.weight"]()]
            assert all(torch.isin(one, there).float().mean(1).max() < 0.2 for one, there in zip(lost, left, strict=True)), name


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_cut_out_it_is_refused_by_stock_diffusers_and_else_loaded_and_saved_like_any_model(
    tiny: Tiny, base: Path, mask: Masks, tmp_path: Path
) -> None:
    bake(base, mask, tmp_path / "cut", LAYOUTS["removed"])
    stock, wanted = getattr(diffusers, tiny.family.transformer), drawn(read(tmp_path / "cut"), tiny)
    with pytest.raises(ValueError, match="import safeflux"):
        stock.from_pretrained(tmp_path / "cut" / "transformer")
    loaded = AutoModel.from_pretrained(str(tmp_path / "cut"), subfolder="transformer").eval()
    assert type(loaded) is getattr(safeflux, tiny.family.removed)
    assert torch.equal(drawn(loaded, tiny), wanted)
    loaded.save_pretrained(tmp_path / "again" / "transformer", max_shard_size="20KB")
    assert torch.equal(drawn(read(tmp_path / "again"), tiny), wanted)


def test_where_a_gate_is_shut_the_feed_forward_layer_is_not_heard(tiny: Tiny, base: Path) -> None:
    """So chunks are in the order in which they are named."""
    model, tried = read(base), 0
    sites = find_sites(model)
    for name, site in sites.items():
        if not site.group.endswith(".gate_mlp"):
            continue
        at, group = name.removesuffix(site.group), FED[site.group.removesuffix(".gate_mlp")]
        fed = [one for one in sites.values() if one.group == group and one.name.startswith(at)]
        assert fed
        with gated(model, sites, {name: torch.zeros(site.units)}):
            before = drawn(model, tiny)
            with gated(model, sites, {one.name: torch.zeros(one.units) for one in fed}):
                assert torch.equal(drawn(model, tiny), before), name
        tried += 1
    assert bool(tried) == (tiny.family.scope != "none")


def test_the_class_at_its_own_size_has_the_known_neurons(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": tiny.family.transformer}))
    found = [
        site.units for site in find_sites(empty_transformer(tmp_path)).values() if site.kind == "neuron" and site.group != "text_embedder"
    ]
    assert (len(found), sum(found)) == tiny.sites


def test_every_family_was_tried_and_the_document_says_so() -> None:
    assert {tiny.family.name for tiny in TINY} == {family.name for family in FAMILIES}
    assert DOCUMENT.read_text(encoding="utf-8") == document()


def test_the_documents_example_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(TINY[1], tmp_path / "model")
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    exec(EXAMPLE, names)
    wanted = masked(tmp_path / "model", TINY[1], names["mask"].keep)
    assert torch.equal(drawn(read(tmp_path / "baked"), TINY[1]), wanted)
    assert not torch.equal(drawn(read(tmp_path / "model"), TINY[1]), wanted)


def test_masks_from_a_file_are_baked_into_a_model_of_another_family(tmp_path: Path) -> None:
    """As by `safeflux bake`."""
    [flux2] = [one for one in TINY if one.family is FLUX2]
    base = make(flux2, tmp_path / "base")
    mask = Masks({"single_transformer_blocks.1.mlp": torch.arange(96) % 2 > 0})
    save_edit(mask, tmp_path / "masks.safetensors", {"base": directory_digest(base)})
    apply(tmp_path / "masks.safetensors", base, tmp_path / "out")
    assert torch.equal(drawn(read(tmp_path / "out"), flux2), masked(base, flux2, mask.keep))
