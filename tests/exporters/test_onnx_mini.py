"""The embedded FLUX, pruned and released, as ONNX: optimum's pipeline draws in its own environment what torch draws here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from older import DONE, OLDER, WITHOUT, run
from safetensors.torch import load_file
from training import small_task

from safeflux.bake import bake
from safeflux.detectors.mini import mini
from safeflux.exporters import onnx as exporter
from safeflux.exporters.diffusers import diffusers
from safeflux.layouts import Layout
from safeflux.methods.concept_prune import concept_prune
from safeflux.mini.text import T5_LENGTH
from safeflux.models.flux1 import Flux1
from safeflux.plan.base import MINI
from safeflux.types import Masks

for package in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(package, reason='needs the extra "onnx"')
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not OLDER, reason=WITHOUT)]

TEXTS = ["a sword", "a sword in a meadow", "a blade at night", "a cat in a meadow", "a house at night", "a red heart", "a neon of a cat"]
LATENTS = {"fp32": 1e-5, "fp16": 5e-3}  # of the largest latent, after four steps
PICTURES = {"fp32": 1e-4, "fp16": 1e-2}  # of 0..1
Drawn = tuple[NDArray[np.uint8], NDArray[np.float32]]


@pytest.fixture(scope="module")
def mask() -> Masks:
    """Of the neurons that fire most for a sword and for neon, three in ten of each layer at each step: enough for it to show."""
    model = Flux1.load(MINI)
    return concept_prune(model, small_task(model), share=0.3, early=1.0, images=8, batch=8)


@pytest.fixture(scope="module")
def released(mask: Masks, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The release in both layouts."""
    place = tmp_path_factory.mktemp("mini")
    for layout in ("dense", "removed"):
        bake(MINI, mask, place / layout / "baked", Layout(layout, secret=b"s"))
        diffusers(place / layout / "baked", place / layout / "root", base=MINI)
    return {layout: place / layout / "root" for layout in ("dense", "removed")}


@pytest.fixture(scope="module")
def by_torch(released: dict[str, Path]) -> Drawn:
    return Flux1.load(released["dense"]).draw_with_latents(TEXTS, range(len(TEXTS)), steps=4)


def shown(pictures: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Of each picture, which of the world's things, styles and characters are in it."""
    judge = mini()
    return np.stack([judge(pictures, label) for label in judge.labels], axis=1)


@pytest.mark.parametrize(("layout", "precision"), [("dense", "fp32"), ("dense", "fp16"), ("removed", "fp32")])
def test_optimum_draws_the_release_and_the_detector_sees_the_same(
    released: dict[str, Path], by_torch: Drawn, layout: str, precision: str, tmp_path: Path
) -> None:
    exporter.onnx(released[layout], tmp_path, base=MINI, precision=precision)
    size = Flux1.load(MINI).size
    how = {"height": size, "width": size, "num_inference_steps": 4, "guidance_scale": 0.0, "max_sequence_length": T5_LENGTH}
    out = tmp_path / "drawn.safetensors"
    assert run(str(OLDER), ("draw_onnx", str(tmp_path), str(out), json.dumps(TEXTS), json.dumps(how))) == [DONE]
    found, (pictures, latents) = load_file(out), by_torch
    drawn = found["pt"].permute(0, 2, 3, 1)
    apart = float(np.abs(found["latent"].numpy() - latents).max() / np.abs(latents).max())
    off = float((drawn - torch.from_numpy(pictures) / 255).abs().max()) - 0.5 / 255  # torch's are rounded
    print(f"{layout}, {precision}: latents off by {apart:.1e}, pictures by {max(off, 0):.1e} more than rounding")
    assert apart <= LATENTS[precision]
    assert off <= PICTURES[precision]
    assert (shown((drawn * 255).round().to(torch.uint8).numpy()) == shown(pictures)).all()


def test_the_base_draws_otherwise_and_the_detector_sees_it(by_torch: Drawn) -> None:
    """The control: the unpruned model in the release's place would have been noticed."""
    pictures, latents = Flux1.load(MINI).draw_with_latents(TEXTS, range(len(TEXTS)), steps=4)
    assert np.abs(by_torch[1] - latents).max() / np.abs(latents).max() > 10 * LATENTS["fp16"]
    assert shown(pictures).any(axis=1).all()
    assert (shown(by_torch[0]) != shown(pictures)).any()
