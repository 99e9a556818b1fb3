"""One file of weights: the same numbers under either names, read back by stock diffusers, or refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file
from test_bake import random_mask
from tiny import transformer
from torch import Tensor

from safeflux import registry
from safeflux.bake import bake
from safeflux.edits import changes
from safeflux.errors import ModelError, StageError
from safeflux.exporters.fp8 import fp8
from safeflux.models import comfyui
from safeflux.models.flux1_original import original
from safeflux.models.loaded import Loaded
from safeflux.models.tensors import Stored, header, stored

LOSSY = {"fp8": 2**-4, "gguf": 1 / 200}  # half a step of e4m3fn at the largest number; half of a 127th, and the scale is a 16-bit float


@pytest.fixture(scope="module")
def masked(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """A tiny FLUX with a third of everything zeroed: baked, and its weights told without baking."""
    out, edit = tmp_path_factory.mktemp("masked") / "baked", random_mask(tiny, closed=0.3)
    bake(tiny, edit, out)
    todo = changes(edit, tiny / "transformer")
    weights = {name: one.read() for name, one in stored(tiny / "transformer").items()}
    return out, {name: todo[name](tensor) if name in todo else tensor for name, tensor in weights.items()}


def again(name: str, baked: Path, base: Path, out: Path) -> Loaded:
    """Exported under diffusers' names and loaded, both by the names a policy would use."""
    if name == "gguf":
        pytest.importorskip("gguf", reason='needs the extra "gguf"')
    out.mkdir()
    registry.get("exporter", name)(baked, out, base=base, keys="diffusers")
    found: Loaded = registry.get("loader", name)(out, root=base, base=base, device="cpu", dtype=torch.float32)
    return found


@pytest.mark.parametrize("name", ["single-file", "fp8", "gguf"])
def test_stock_diffusers_reads_it_and_zeros_are_zero(masked: tuple[Path, dict[str, Tensor]], tiny: Path, tmp_path: Path, name: str) -> None:
    baked, wanted = masked
    loaded = again(name, baked, tiny, tmp_path / "out")
    assert type(loaded.model.transformer) is FluxTransformer2DModel
    assert "from_single_file, diffusers 0." in loaded.consumer
    assert loaded.weights is not None
    assert loaded.weights.keys() == wanted.keys()
    assert loaded.exact == (name == "single-file")
    for tensor, numbers in wanted.items():
        found = loaded.weights[tensor]()
        assert not found[numbers == 0].any(), tensor
        if name == "single-file" or numbers.dim() == 1:
            assert torch.equal(found, numbers), tensor
        else:
            assert (found - numbers).abs().max() <= LOSSY[name] * numbers.abs().max(), tensor
    cond, noise = loaded.model.encode(["a cat"]), loaded.model.noise([1])
    assert loaded.model.sample(noise, cond, steps=1).isfinite().all()


def test_fp8_is_refused_where_it_would_overflow(tmp_path: Path) -> None:
    model = transformer(blocks=1)
    with torch.no_grad():
        model.proj_out.weight[0, 0] = -449
    model.save_pretrained(tmp_path / "transformer")
    with pytest.raises(StageError, match=r"proj_out\.weight holds 449, and e4m3fn ends at 448; export single-file or gguf"):
        fp8(tmp_path, tmp_path, base=tmp_path, keys="diffusers")


def layout(directory: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A tiny model's tensors in both layouts, which this writes out by hand for the layers that are not simply renamed."""
    parts = stored(directory / "transformer")
    return {name: one.read() for name, one in parts.items()}, {name: one.read() for name, one in original(parts).items()}


def test_original_layout_joins_queries_keys_values_and_mlp(tiny: Path) -> None:
    ours, theirs = layout(tiny)
    assert sum(t.numel() for t in ours.values()) == sum(t.numel() for t in theirs.values())
    for part in ("weight", "bias"):
        double = [ours[f"transformer_blocks.1.attn.{name}.{part}"] for name in ("to_q", "to_k", "to_v")]
        assert torch.equal(theirs[f"double_blocks.1.img_attn.qkv.{part}"], torch.cat(double))
        text = [ours[f"transformer_blocks.0.attn.{name}.{part}"] for name in ("add_q_proj", "add_k_proj", "add_v_proj")]
        assert torch.equal(theirs[f"double_blocks.0.txt_attn.qkv.{part}"], torch.cat(text))
        single = [ours[f"single_transformer_blocks.1.{name}.{part}"] for name in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")]
        assert torch.equal(theirs[f"single_blocks.1.linear1.{part}"], torch.cat(single))
        scale, shift = ours[f"norm_out.linear.{part}"].chunk(2)
        assert torch.equal(theirs[f"final_layer.adaLN_modulation.1.{part}"], torch.cat([shift, scale]))
    assert torch.equal(theirs["single_blocks.0.norm.query_norm.scale"], ours["single_transformer_blocks.0.attn.norm_q.weight"])


def test_what_is_no_flux_has_no_place_in_it(tiny: Path) -> None:
    parts = stored(tiny / "transformer")
    with pytest.raises(ModelError, match=r"no place for extra\.weight"):
        original(parts | {"extra.weight": parts["proj_out.weight"]})


@pytest.mark.parametrize("name", ["single-file", "fp8", "gguf"])
@pytest.mark.parametrize("keys", ["original", "diffusers"])
def test_cut_out_neurons_and_other_widths_are_refused_with_the_reason(tiny: Path, tmp_path: Path, name: str, keys: str) -> None:
    if name == "gguf":
        pytest.importorskip("gguf", reason='needs the extra "gguf"')
    export = registry.get("exporter", name)
    model = transformer(blocks=1)
    model.save_pretrained(tmp_path / "uniform" / "transformer")
    if keys == "original":
        with pytest.raises(StageError, match="32 wide, and readers of the original layout know 3072 only; keys: diffusers"):
            export(tmp_path / "uniform", tmp_path, base=tiny, keys=keys)
    block = model.single_transformer_blocks[0]
    block.proj_mlp = torch.nn.Linear(32, 100)
    model.save_pretrained(tmp_path / "ragged" / "transformer")
    with pytest.raises(StageError, match=r"single_transformer_blocks\.0\.proj_mlp\.weight has 100 neurons, and every reader .* takes 128"):
        export(tmp_path / "ragged", tmp_path, base=tiny, keys=keys)
    assert not list(tmp_path.glob("model*"))


def shapes(guidance: bool = False) -> dict[str, tuple[int, ...]]:
    """The header of a file in the original layout, one head wide."""
    model = transformer(blocks=2, heads=1, head_dim=128, guidance=guidance)
    parts = {name: Stored(tuple(t.shape), t.dtype, lambda t=t: t) for name, t in model.state_dict().items()}
    return {name: one.shape for name, one in original(parts).items()}


@pytest.mark.parametrize("guidance", [False, True])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_comfyui_sees_a_flux_in_the_header(guidance: bool, prefix: str) -> None:
    found = comfyui.detect({f"{prefix}{name}": shape for name, shape in shapes(guidance).items()})
    assert found == {
        "width": 128, "heads": 1, "channels": 16, "text": 128, "vector": 128, "double": 2, "single": 2, "guidance": guidance,
    }  # fmt: skip


def _renamed(header: dict[str, tuple[int, ...]]) -> None:
    header["double_blocks.0.img_attn.norm.k"] = header.pop("double_blocks.0.img_attn.norm.key_norm.scale")


def _ragged(header: dict[str, tuple[int, ...]]) -> None:
    header["double_blocks.1.txt_mlp.0.weight"] = (500, 128)


def _narrow(header: dict[str, tuple[int, ...]]) -> None:
    header["txt_in.weight"] = (96, 128)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_renamed, "finds no FLUX"),
        (_ragged, r"double_blocks\.1\.txt_mlp\.0\.weight as \(512, 128\); the file has \(500, 128\)"),
        (_narrow, "width 96"),
    ],
)
def test_comfyui_refuses_what_its_rules_refuse(change: Callable[[dict[str, tuple[int, ...]]], None], says: str) -> None:
    header = shapes()
    change(header)
    with pytest.raises(ModelError, match=says):
        comfyui.detect(header)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["single-file", "fp8", "gguf"])
def test_at_full_width_the_original_layout_comes_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    """One block of each kind, 3072 wide, with dev's guidance, some of it zero: about 1 GB, read by stock diffusers with a local config."""
    if name == "gguf":
        pytest.importorskip("gguf", reason='needs the extra "gguf"')
    model = transformer(blocks=1, heads=24, head_dim=128, guidance=True).to(torch.bfloat16)
    with torch.no_grad():
        model.transformer_blocks[0].ff.net[2].weight[:, ::3] = 0
    model.save_pretrained(tmp_path / "baked" / "transformer")
    wanted = {n: t.clone() for n, t in model.state_dict().items()}
    del model
    [file] = registry.get("exporter", name)(tmp_path / "baked", tmp_path, base=tmp_path)
    options: dict[str, Any] = {"config": str(tmp_path / "baked"), "subfolder": "transformer", "dtype": torch.bfloat16}
    if name == "gguf":
        from diffusers import GGUFQuantizationConfig
        from gguf import GGUFReader

        assert {t.tensor_type.name for t in GGUFReader(file).tensors} == {"Q8_0", "F32"}
        FluxTransformer2DModel.from_single_file(
            str(file), quantization_config=GGUFQuantizationConfig(compute_dtype=torch.bfloat16), **options
        )
        return
    assert comfyui.detect(header(file)) | {"text": 0, "vector": 0} == {
        "width": 3072, "heads": 24, "channels": 16, "text": 0, "vector": 0, "double": 1, "single": 1, "guidance": True,
    }  # fmt: skip
    found = FluxTransformer2DModel.from_single_file(str(file), **options).state_dict()
    assert found.keys() == wanted.keys()
    for tensor, numbers in wanted.items():
        small = name == "fp8" and numbers.dim() == 2
        assert torch.equal(found[tensor], numbers.to(torch.float8_e4m3fn).to(torch.bfloat16) if small else numbers), tensor
    assert {t.dtype for t in load_file(file).values()} == (
        {torch.bfloat16} if name == "single-file" else {torch.bfloat16, torch.float8_e4m3fn}
    )
