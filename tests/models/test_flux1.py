"""What Flux1 computes is what diffusers' own pipeline computes, and its sites are where the weights are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from tiny import make_tiny

from safeflux.edits import empty_transformer
from safeflux.errors import ModelError
from safeflux.models.declared import find_sites
from safeflux.models.flux1 import Flux1
from safeflux.models.sites import Site, gated

PROMPTS = ["a red sword", "captain comet at night", ""]


@pytest.mark.parametrize("guidance", [False, True])
def test_draws_what_the_stock_pipeline_draws(tmp_path: Path, guidance: bool) -> None:
    directory = make_tiny(tmp_path, guidance=guidance)
    model = Flux1.load(directory)
    pipe = FluxPipeline.from_pretrained(directory)
    pipe.set_progress_bar_config(disable=True)
    stock = pipe(
        PROMPTS, height=32, width=32, num_inference_steps=4, guidance_scale=3.5, max_sequence_length=model.max_length,
        generator=[torch.Generator().manual_seed(s) for s in (5, 6, 7)], output_type="np",
    ).images  # fmt: skip
    ours = model.draw(PROMPTS, [5, 6, 7], steps=4)
    assert np.abs(ours / 255 - stock).max() <= 0.5 / 255 + 1e-5


def test_noise_belongs_to_its_seed_whatever_the_batch(tiny: Path) -> None:
    model = Flux1.load(tiny)
    assert torch.equal(model.noise([3, 4])[1], model.noise([4])[0])


def test_text_encoders_come_back_after_being_freed(tiny: Path) -> None:
    model = Flux1.load(tiny)
    before = model.encode(PROMPTS)
    model.free_text_encoders()
    after = model.encode(PROMPTS)
    assert torch.equal(before.sequence, after.sequence)
    assert torch.equal(before.pooled, after.pooled)


def test_a_closed_gate_equals_zero_weights(tiny: Path) -> None:
    """Every kind of site: multiplying units by 0 is the same function as zeroing what the site says carries them."""
    model = Flux1.load(tiny)
    noise, cond = model.noise([1, 2]), model.encode(PROMPTS[:2])
    untouched, weights = model.sample(noise, cond, steps=2), {k: v.clone() for k, v in model.transformer.state_dict().items()}
    for name, site in model.sites().items():
        gate = torch.ones(site.units)
        gate[::3] = 0
        with gated(model.transformer, model.sites(), {name: gate}):
            wanted = model.sample(noise, cond, steps=2)
        zero(model, site)
        assert torch.allclose(model.sample(noise, cond, steps=2), wanted, atol=1e-6), name
        assert not torch.allclose(untouched, wanted, atol=1e-6), name
        model.transformer.load_state_dict(weights)


def test_a_function_gives_new_gates_to_every_forward_pass(tiny: Path) -> None:
    """Asked once a pass, whatever the number of sites; what it gives is what tensors would do, and at the end it is gone."""
    model = Flux1.load(tiny)
    noise, cond, sites = model.noise([1]), model.encode(PROMPTS[:1]), model.sites()
    draws: list[dict[str, torch.Tensor]] = []

    def draw() -> dict[str, torch.Tensor]:
        random = torch.Generator().manual_seed(len(draws))
        draws.append({name: torch.rand(site.units, generator=random) for name, site in sites.items()})
        return draws[-1]

    now, untouched = model.sigmas(1)[0], model.velocity(noise, model.sigmas(1)[0], cond)
    with gated(model.transformer, sites, draw):
        first, second = (model.velocity(noise, now, cond) for _ in range(2))
    assert len(draws) == 2
    for drawn, got in zip(draws, (first, second), strict=True):
        with gated(model.transformer, sites, drawn):
            assert torch.equal(model.velocity(noise, now, cond), got)
    assert not torch.equal(first, second)
    assert torch.equal(model.velocity(noise, now, cond), untouched)


@torch.no_grad()
def zero(model: Flux1, site: Site) -> None:
    """Every third unit's weights, as the site describes them."""
    for unit in range(0, site.units, 3):
        if site.reads:
            linear = model.transformer.get_submodule(site.reads)
            linear.weight[site.row + unit] = 0
            linear.bias[site.row + unit] = 0
        if site.writes:
            start = site.column + unit * site.width
            model.transformer.get_submodule(site.writes).weight[:, start : start + site.width] = 0


def test_flux1_true_configuration_has_the_known_sites(tmp_path: Path) -> None:
    """FLUX.1 at full size on the meta device: 76 FFN sites with 933,888 neurons, 3,072 in the pooled-text embedder, 1,050,624
    modulation outputs in blocks."""
    config = {
        "_class_name": "FluxTransformer2DModel", "in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128,
        "num_attention_heads": 24, "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    sites = list(find_sites(empty_transformer(tmp_path)).values())
    neurons = [s for s in sites if s.group in ("ff", "ff_context", "proj_mlp")]
    assert [s.units for s in sites if s.kind == "neuron" and s not in neurons] == [3072]
    assert {s.units for s in sites if s.kind == "modulation"} == {3072}
    assert (len(neurons), sum(s.units for s in neurons)) == (76, 933_888)
    assert sum(s.units for s in sites if s.kind == "modulation") == 1_050_624
    assert sum(s.units for s in sites if s.kind == "head") == 24 * (2 * 19 + 38)


@pytest.mark.parametrize("index", [None, '{"_class_name": "StableDiffusionPipeline"}'])
def test_what_is_no_flux_is_refused(tmp_path: Path, index: str | None) -> None:
    if index:
        (tmp_path / "model_index.json").write_text(index)
    with pytest.raises(ModelError, match=r"model_index\.json"):
        Flux1.load(tmp_path)


def test_another_family_is_named_and_what_works_on_it(tmp_path: Path) -> None:
    index = {"_class_name": "ZImagePipeline", "transformer": ["safeflux", "SafeFluxZImageTransformer2DModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"says 'ZImagePipeline'; .* It is a model of Z-Image, with masks only: a mask of its transformer"):
        Flux1.load(tmp_path)


def test_missing_weights_are_a_model_error(tiny: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny, broken)
    (broken / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot load"):
        Flux1.load(broken)
