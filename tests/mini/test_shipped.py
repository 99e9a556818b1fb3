"""What is shipped: small, inert, stock, and as good as its card says (the full table comes from bench/mini_quality.py)."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from older import DONE, OLDER, WITHOUT, run
from safetensors import safe_open
from safetensors.torch import load_file

from safeflux import prompts
from safeflux.mini import detector, embedder
from safeflux.mini.captions import caption, random_scene
from safeflux.mini.world import CHARACTERS, LABELS, STYLES, THINGS, Item, Scene, render
from safeflux.models.flux1 import Flux1

MINI = Path(detector.__file__).parent
KINDS = {"object": THINGS, "style": STYLES, "character": CHARACTERS}


def test_it_is_small_and_inert() -> None:
    files = [p for d in ("model", "detectors") for p in (MINI / d).rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 40_000_000
    assert {p.suffix for p in files} <= {".safetensors", ".json", ".txt", ".md", ""}
    for path in files:
        if path.suffix != ".safetensors":
            assert "/tmp" not in path.read_text(encoding="utf-8"), path


def test_it_has_the_topology_of_flux1() -> None:
    config = json.loads((MINI / "model" / "transformer" / "config.json").read_text())
    assert (config["in_channels"], config["guidance_embeds"]) == (64, False)
    assert config["num_layers"] >= 2
    assert config["num_single_layers"] >= 2
    sites = Flux1.load(MINI / "model").sites().values()
    assert sum(s.units for s in sites if s.kind == "neuron") >= 5000


def test_the_stock_pipeline_draws_the_same_pictures() -> None:
    pipe = FluxPipeline.from_pretrained(MINI / "model")
    pipe.set_progress_bar_config(disable=True)
    how = json.loads((MINI / "model" / "generation_config.json").read_text())
    texts = ["a sword", "a cat and a key"]
    stock = pipe(texts, **how, generator=[torch.Generator().manual_seed(s) for s in (1, 2)], output_type="np").images
    ours = Flux1.load(MINI / "model").draw(texts, [1, 2], steps=4)
    assert np.abs(ours / 255 - stock).max() <= 0.5 / 255 + 1e-5


@pytest.mark.skipif(not OLDER, reason=WITHOUT)
def test_older_versions_of_diffusers_and_transformers_draw_the_same(tmp_path: Path) -> None:
    drawn = []
    for python in (str(OLDER), sys.executable):
        assert run(python, ("draw", str(MINI / "model"), str(tmp_path / "drawn"), "a sword", "a cat in a meadow")) == [DONE]
        drawn.append(load_file(tmp_path / "drawn"))
    for what, tolerance in (("sequence", 1e-6), ("pooled", 1e-6), ("latents", 1e-5)):
        assert (drawn[0][what] - drawn[1][what]).abs().max() <= tolerance * drawn[1][what].abs().max(), what


def test_its_files_are_those_that_transformers_4_reads() -> None:
    with safe_open(MINI / "model" / "text_encoder" / "model.safetensors", "pt") as file:
        assert all(name.startswith("text_model.") for name in file.keys())  # noqa: SIM118
    told = json.loads((MINI / "model" / "tokenizer_2" / "tokenizer_config.json").read_text())
    assert "extra_special_tokens" not in told


@pytest.mark.parametrize(("category", "each", "floor"), [("object", 3, 0.93), ("style", 8, 0.85), ("character", 8, 0.85)])
def test_it_draws_what_a_prompt_names(category: str, each: int, floor: float) -> None:
    """A smaller sample than the card's, with floors that the card's rates miss with probability below 1e-3."""
    drawn = [p for x in KINDS[category] for p in prompts.about(x, [x], category, each, split="audit", seed=4, label=x)]
    images = Flux1.load(MINI / "model").draw([p.text for p in drawn], list(range(len(drawn))), steps=4, batch=64)
    found = detector.load("judge")(images) > 0.5
    assert np.mean([found[i, LABELS.index(p.expects[0])] for i, p in enumerate(drawn)]) >= floor


@pytest.mark.parametrize("which", ["judge", "checker"])
def test_a_detector_knows_the_world(which: detector.Which) -> None:
    rng = random.Random(77)
    scenes = [random_scene(rng)[0] for _ in range(300)]
    found = detector.load(which)(np.stack([render(s, rng) for s in scenes])) > 0.5
    truth = np.array([[label in s.labels for label in LABELS] for s in scenes])
    assert found[truth].mean() >= 0.95
    assert (~found)[~truth].mean() >= 0.995


def test_the_detectors_are_built_differently() -> None:
    judge, checker = detector.build("judge"), detector.build("checker")
    assert {type(m) for m in judge.modules()} != {type(m) for m in checker.modules()}


def test_the_embedder_prefers_the_right_caption() -> None:
    rng = random.Random(78)
    scenes = [Scene((Item(form),)) for form in rng.sample(list(THINGS), 12)]
    tools = embedder.load()
    images = tools.images(np.stack([render(s, rng) for s in scenes]))
    texts = tools.texts([caption(s, rng, synonym=0.0, typo=0.0) for s in scenes])
    assert ((images @ texts.T).argmax(axis=1) == np.arange(len(scenes))).mean() >= 0.9
