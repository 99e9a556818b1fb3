"""The graphs compute what the networks do, at any size; nothing of this machine is in them; optimum's pipelines load them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import make_tiny, transformer

from safeflux.errors import StageError
from safeflux.exporters import onnx as exporter
from safeflux.models import onnx_graphs
from safeflux.models.flux1 import Flux1

onnx = pytest.importorskip("onnx", reason='needs the extra "onnx"')
onnxruntime = pytest.importorskip("onnxruntime", reason='needs the extra "onnx"')
pytest.importorskip("onnxscript", reason='needs the extra "onnx"')

OPTIMUM = os.environ.get("SAFEFLUX_OPTIMUM")
STOCK = """
import sys, numpy, torch
from optimum.onnxruntime import ORTFluxPipeline
pipe = ORTFluxPipeline.from_pretrained(sys.argv[1])
pipe.set_progress_bar_config(disable=True)
shape = dict(height=48, width=64, num_inference_steps=2, guidance_scale=3.5, max_sequence_length=20)
noise = [torch.Generator().manual_seed(s) for s in (1, 2)]
numpy.save(sys.argv[2], pipe(["a sword", "a cat"], generator=noise, output_type="np", **shape).images)
"""


def leaks(folder: Path) -> None:
    """No path, no module, no line of code; weights in the file beside it."""
    raw = (folder / exporter.FILE).read_bytes()
    for word in (
        b".py",
        b"site-packages",
        str(Path.cwd()).encode(),
        str(Path.home()).encode() + b"/",
        b"stack_trace",
        b"namespace",
        b"pkg.torch",
    ):
        assert word not in raw, word
    model = onnx.load(folder / exporter.FILE, load_external_data=False)
    assert {entry.value for t in model.graph.initializer for entry in t.external_data if entry.key == "location"} <= {exporter.WEIGHTS}


def test_a_graph_is_stripped_and_held_against_its_network(tiny: Path, tmp_path: Path) -> None:
    model = Flux1.load(tiny)
    [graph] = [one for one in onnx_graphs.graphs(model.pipe) if one.name == "text_encoder"]
    exporter._write(graph, tmp_path)
    leaks(tmp_path)
    exporter._compare(graph, tmp_path, torch.float32)
    inputs = onnxruntime.InferenceSession(tmp_path / exporter.FILE).get_inputs()
    assert [(one.name, one.shape) for one in inputs] == [("input_ids", ["batch_size", "sequence_length"])]
    weights = tmp_path / exporter.WEIGHTS
    weights.write_bytes(bytes(weights.stat().st_size))
    with pytest.raises(StageError, match="ONNX graph text_encoder computes last_hidden_state otherwise than torch"):
        exporter._compare(graph, tmp_path, torch.float32)


def test_an_autoencoder_without_variance_gives_the_mean() -> None:
    latents = torch.ones(2, 16, 3, 3)
    found = onnx_graphs._latents(SimpleNamespace(latents=latents))
    assert torch.equal(found[:, :16], latents)
    assert (found[:, 16:].exp() < 1e-12).all()
    kept = onnx_graphs._latents(SimpleNamespace(latent_dist=SimpleNamespace(parameters=latents)))
    assert kept is latents


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("guided"), guidance=True)


@pytest.fixture(scope="module")
def exported(guided: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, told = tmp_path_factory.mktemp("onnx"), list[tuple[str, int, int]]()
    files = exporter.onnx(guided, out, base=guided, progress=lambda *step: told.append(step))
    assert files == sorted(path for path in out.rglob("*") if path.is_file())
    names = ["text_encoder", "text_encoder_2", "transformer", "vae_decoder", "vae_encoder"]
    assert told == [(name, done, 5) for done, name in enumerate(names)]
    return out


@pytest.mark.slow
def test_every_network_is_there_without_a_trace_of_this_machine(exported: Path) -> None:
    for path in exported.rglob(exporter.FILE):
        leaks(path.parent)
    inputs = {one.name: one.shape for one in onnxruntime.InferenceSession(exported / "transformer" / exporter.FILE).get_inputs()}
    assert inputs["hidden_states"] == ["batch_size", "image_tokens", 64]
    assert inputs["encoder_hidden_states"] == ["batch_size", "text_tokens", 128]
    assert inputs["guidance"] == ["batch_size"]


@pytest.mark.slow
def test_onnxruntime_draws_what_torch_draws(exported: Path, guided: Path) -> None:
    from safeflux.loaders.onnx import onnx as load

    texts, base = ["a sword", "a cat in a meadow", "a house"], Flux1.load(guided)
    loaded = load(exported, root=guided, base=None, device="cpu", dtype=torch.float32)
    assert "onnxruntime" in loaded.consumer
    wanted = base.sample(base.noise([1, 2, 3]), base.encode(texts), steps=3)
    found = loaded.model.sample(loaded.model.noise([1, 2, 3]), loaded.model.encode(texts), steps=3)
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert (loaded.model.draw(texts, [1, 2, 3], steps=3).astype(int) - base.draw(texts, [1, 2, 3], steps=3)).max() <= 1


@pytest.mark.slow
def test_half_precision_and_the_same_bytes_again(tmp_path: Path) -> None:
    graph = onnx_graphs.transformer(transformer(blocks=1).half())
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        exporter._write(graph, tmp_path / name)
    assert (tmp_path / "first" / exporter.FILE).read_bytes() == (tmp_path / "second" / exporter.FILE).read_bytes()
    assert (tmp_path / "first" / exporter.WEIGHTS).read_bytes() == (tmp_path / "second" / exporter.WEIGHTS).read_bytes()
    exporter._compare(graph, tmp_path / "first", torch.float16)
    assert onnxruntime.InferenceSession(tmp_path / "first" / exporter.FILE).get_inputs()[0].type == "tensor(float16)"


@pytest.mark.slow
@pytest.mark.skipif(not OPTIMUM, reason="SAFEFLUX_OPTIMUM names no Python with optimum-onnx")
def test_optimums_pipeline_loads_it_and_draws_the_same(exported: Path, guided: Path, tmp_path: Path) -> None:
    from diffusers import FluxPipeline

    subprocess.run([str(OPTIMUM), "-W", "ignore", "-c", STOCK, str(exported), str(tmp_path / "x.npy")], check=True, cwd=tmp_path)
    pipe = FluxPipeline.from_pretrained(guided)
    pipe.set_progress_bar_config(disable=True)
    noise = [torch.Generator().manual_seed(s) for s in (1, 2)]
    wanted = pipe(
        ["a sword", "a cat"], generator=noise, output_type="np", height=48, width=64, num_inference_steps=2, guidance_scale=3.5,
        max_sequence_length=20,
    ).images  # fmt: skip
    assert np.abs(np.load(tmp_path / "x.npy") - wanted).max() <= 1e-4
    assert json.loads((exported / "model_index.json").read_text())["_class_name"] == "FluxPipeline"
