"""A FLUX with neurons cut out: what stock diffusers makes of it with and without ``import safeflux``, and what still works on it."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import AutoModel, FluxPipeline, FluxTransformer2DModel
from older import OLDER, WITHOUT
from safetensors.torch import save_file
from test_bake import random_mask
from torch import Tensor

import safeflux
from safeflux.bake import bake
from safeflux.errors import ModelError
from safeflux.exporters.diffusers import diffusers
from safeflux.layouts import Layout
from safeflux.models.declared import find_sites
from safeflux.models.removed import SafeFluxTransformer2DModel
from safeflux.types import KEPT, Masks

REMOVED = Layout("removed", secret=b"s")
STOCK = """
import sys
from diffusers import AutoModel, DiffusionPipeline, FluxPipeline, FluxTransformer2DModel
root, part = sys.argv[1], sys.argv[1] + "/transformer"
ways = {
    "pipeline": lambda: FluxPipeline.from_pretrained(root),
    "any pipeline": lambda: DiffusionPipeline.from_pretrained(root),
    "model": lambda: FluxTransformer2DModel.from_pretrained(part),
    "model in one piece": lambda: FluxTransformer2DModel.from_pretrained(part, low_cpu_mem_usage=False),
    "whatever its sizes": lambda: FluxTransformer2DModel.from_pretrained(part, ignore_mismatched_sizes=True),
    "both": lambda: FluxTransformer2DModel.from_pretrained(part, ignore_mismatched_sizes=True, low_cpu_mem_usage=False),
    "any model": lambda: AutoModel.from_pretrained(root, subfolder="transformer"),
}
for name, load in ways.items():
    try:
        load()
        print(name, "LOADED", sep=" | ")
    except Exception as error:
        print(name, type(error).__name__, error, sep=" | ")
assert "safeflux" not in sys.modules

sys.path[:0] = sys.argv[2:]
import numpy as np, safeflux
pipeline = FluxPipeline.from_pretrained(root)
pipeline.set_progress_bar_config(disable=True)
picture = pipeline("a tree", num_inference_steps=1, height=32, width=32, output_type="np").images
print(type(pipeline.transformer).__name__, np.isfinite(picture).all())
"""


@pytest.fixture(scope="module")
def edit(tiny: Path) -> Masks:
    mask = {name: keep for name, keep in random_mask(tiny, closed=0.3).keep.items() if "attn" not in name}
    return Masks(mask | {"transformer_blocks.0.ff": torch.zeros(128, dtype=torch.bool)})


@pytest.fixture(scope="module")
def released(tiny: Path, edit: Masks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny FLUX with neurons cut out, of one layer all, as a release has it."""
    place = tmp_path_factory.mktemp("removed")
    bake(tiny, edit, place / "baked", REMOVED, kept=True)
    diffusers(place / "baked", place / "release", base=tiny)
    return place / "release"


def inputs(model: FluxTransformer2DModel) -> dict[str, Tensor]:
    torch.manual_seed(0)
    dtype = model.dtype if model.dtype.itemsize > 1 else torch.float32
    return {
        "hidden_states": torch.randn(1, 4, 64, dtype=dtype), "encoder_hidden_states": torch.randn(1, 3, 128, dtype=dtype),
        "pooled_projections": torch.randn(1, 128, dtype=dtype), "timestep": torch.ones(1, dtype=dtype), "img_ids": torch.zeros(4, 3),
        "txt_ids": torch.zeros(3, 3),
    }  # fmt: skip


def drawn(model: FluxTransformer2DModel) -> Tensor:
    out: Tensor = model(**inputs(model), return_dict=False)[0]
    return out


@pytest.fixture
def model(released: Path) -> SafeFluxTransformer2DModel:
    return SafeFluxTransformer2DModel.from_pretrained(released / "transformer").eval()


def test_without_safeflux_every_way_of_loading_ends_in_one_line_that_says_what_to_do_and_with_it_all_is_well(released: Path) -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", STOCK, str(released)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert len(lines) == 7, done.stdout
    for line in lines:
        name, kind, said = line.split(" | ", 2)
        assert kind == "ValueError", line
        assert "import safeflux" in said, name
    assert last == "SafeFluxTransformer2DModel True"


@pytest.mark.skipif(not OLDER, reason=WITHOUT)
def test_an_older_diffusers_says_what_is_missing_and_with_safeflux_loads_it(released: Path, tmp_path: Path) -> None:
    """Neither the package nor its requirements are installed there: ``import safeflux``, from wherever it lies, is enough."""
    command = [str(OLDER), "-P", "-W", "ignore", "-c", STOCK, str(released), str(Path(safeflux.__file__).parent.parent)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": ""}, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    told = [line.split(" | ", 2)[1:] for line in lines]
    assert [kind for kind, _ in told] == ["ModuleNotFoundError"] * 2 + ["ValueError"] * 4 + ["ModuleNotFoundError"]
    assert all(said == "No module named 'safeflux'" if kind == "ModuleNotFoundError" else "import safeflux" in said for kind, said in told)
    assert last == "SafeFluxTransformer2DModel True"


def elsewhere(model: SafeFluxTransformer2DModel) -> SafeFluxTransformer2DModel:
    """A copy in memory of its own: mapped to a file, weights lie where the file has them, and on some machines kernels round by that."""
    return copy.deepcopy(model)


def test_saved_again_in_shards_it_is_the_same(released: Path, model: SafeFluxTransformer2DModel, tmp_path: Path) -> None:
    pipeline = FluxPipeline.from_pretrained(released)
    pipeline.save_pretrained(str(tmp_path / "again"), max_shard_size="100KB")
    assert len(list((tmp_path / "again" / "transformer").glob("*.safetensors"))) > 2
    for options in ({}, {"device_map": "balanced"}, {"low_cpu_mem_usage": False}):
        again = FluxPipeline.from_pretrained(tmp_path / "again", **options)
        assert again.transformer.config.widths == model.config.widths
        theirs, ours = again.transformer.eval().state_dict(), model.state_dict()
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[name], ours[name]) for name in ours)
        assert torch.equal(drawn(elsewhere(again.transformer)), drawn(elsewhere(model)))
    other = AutoModel.from_pretrained(str(tmp_path / "again"), subfolder="transformer")
    assert isinstance(other, SafeFluxTransformer2DModel)


def test_a_base_in_shards_stays_in_shards(
    tiny: Path, released: Path, edit: Masks, model: SafeFluxTransformer2DModel, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(tiny, tmp_path / "base"))
    stock = FluxTransformer2DModel.from_pretrained(tiny / "transformer")
    shutil.rmtree(base / "transformer")
    stock.save_pretrained(base / "transformer", max_shard_size="100KB")
    bake(base, edit, tmp_path / "baked", REMOVED)
    assert {p.name for p in (base / "transformer").iterdir()} == {p.name for p in (tmp_path / "baked" / "transformer").iterdir()}
    again = SafeFluxTransformer2DModel.from_pretrained(tmp_path / "baked" / "transformer").eval()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_eight_bits_fused_attention_and_checkpoints_work(released: Path, model: SafeFluxTransformer2DModel) -> None:
    wanted = drawn(model)
    half = SafeFluxTransformer2DModel.from_pretrained(released / "transformer", dtype=torch.bfloat16)
    assert (drawn(half) - wanted).abs().max() < 0.1 * wanted.abs().max()
    eight = SafeFluxTransformer2DModel.from_pretrained(released / "transformer")
    eight.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert eight.transformer_blocks[1].ff.net[2].weight.dtype == torch.float8_e4m3fn
    assert (eight(**inputs(model), return_dict=False)[0] - wanted).abs().max() < 0.5 * wanted.abs().max()

    model.fuse_qkv_projections()
    assert torch.allclose(drawn(model), wanted, atol=1e-5)
    model.unfuse_qkv_projections()
    model.train().enable_gradient_checkpointing()
    out = drawn(model)
    out.square().mean().backward()
    assert torch.allclose(out, wanted, atol=1e-6)
    grad = model.transformer_blocks[1].ff.net[2].weight.grad
    assert grad is not None
    assert grad.abs().max() > 0


def test_blocks_know_their_widths(model: SafeFluxTransformer2DModel, edit: Masks) -> None:
    for n, block in enumerate(model.single_transformer_blocks):
        width = int(edit.keep[f"single_transformer_blocks.{n}.proj_mlp"].sum())
        assert block.mlp_hidden_dim == block.proj_mlp.out_features == width
        assert block.proj_out._tp_packed_row_blocks == [32, width]
    assert {name: site.units for name, site in find_sites(model).items() if name in model.config.widths} == model.config.widths


@pytest.mark.parametrize(
    ("site", "width"), [("transformer_blocks.0.ff", 129), ("transformer_blocks.9.ff", 3), ("transformer_blocks.0.norm1", 1)]
)
def test_widths_that_no_flux_has_are_refused(site: str, width: int) -> None:
    with pytest.raises(ModelError, match=r"widths: came transformer_blocks"):
        SafeFluxTransformer2DModel(
            num_layers=1, num_single_layers=0, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=8,
            pooled_projection_dim=8, axes_dims_rope=(4, 6, 6), widths={site: width},
        )  # fmt: skip


LAYERS = ("attn.to_q", "ff.net.0.proj", "ff.net.2", "ff_context.net.2", "proj_mlp", "proj_out")


def adapter(tiny: Path) -> dict[str, Tensor]:
    """A LoRA over attention and feed-forward layers of the base, as diffusers saves one."""
    torch.manual_seed(3)
    stock, found = FluxTransformer2DModel.from_pretrained(tiny / "transformer"), {}
    for path, layer in stock.named_modules():
        if path.endswith(LAYERS):
            found[f"transformer.{path}.lora_A.weight"] = torch.randn(4, layer.in_features)
            found[f"transformer.{path}.lora_B.weight"] = torch.randn(layer.out_features, 4) * 0.05
    return found


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # peft's factors for the layer that is empty
def test_a_lora_is_cut_to_fit_and_does_what_it_did_to_the_masked_model(tiny: Path, released: Path, edit: Masks, tmp_path: Path) -> None:
    """Adding the factors' product to the base and masking the sum is the same as slicing the factors."""
    lora = adapter(tiny)
    save_file(lora, tmp_path / "lora.safetensors")
    pipeline = FluxPipeline.from_pretrained(released)
    before = drawn(pipeline.transformer.eval())
    pipeline.load_lora_weights(safeflux.slice_lora(tmp_path / "lora.safetensors", released))
    after = drawn(pipeline.transformer.eval())

    merged = Path(shutil.copytree(tiny, tmp_path / "merged"))
    stock = FluxTransformer2DModel.from_pretrained(merged / "transformer")
    for name, down in lora.items():
        if name.endswith("lora_A.weight"):
            stock.get_submodule(name.removeprefix("transformer.").removesuffix(".lora_A.weight")).weight.data += (
                lora[name.replace("lora_A", "lora_B")] @ down
            )
    stock.save_pretrained(merged / "transformer")
    bake(merged, edit, tmp_path / "baked", REMOVED)
    wanted = drawn(SafeFluxTransformer2DModel.from_pretrained(tmp_path / "baked" / "transformer").eval())
    assert (after - wanted).abs().max() < 1e-4 * wanted.abs().max()
    assert (after - before).abs().max() > 0.05 * wanted.abs().max()


def test_a_lora_that_does_not_fit_is_refused(tiny: Path, released: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no kept_neurons"):
        safeflux.slice_lora(adapter(tiny), tiny)
    small = {name: value[:40] if "lora_B" in name else value for name, value in adapter(tiny).items()}
    with pytest.raises(ModelError, match="is for another model"):
        safeflux.slice_lora(small, released)
    (tmp_path / "no.safetensors").write_bytes(b"no")
    with pytest.raises(ModelError, match="is no LoRA for FLUX"):
        safeflux.slice_lora(tmp_path / "no.safetensors", released)
    broken = Path(shutil.copytree(released, tmp_path / "broken"))
    (broken / KEPT).write_bytes(b"no")
    with pytest.raises(ModelError, match="as it was released"):
        safeflux.slice_lora(adapter(tiny), broken)
