"""The training from nothing, cut to a few updates of everything."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from safeflux.mini import flux, text
from safeflux.mini.autoencoder import Code, pictures
from safeflux.mini.train import QUICK, make
from safeflux.models.flux1 import Flux1


def test_all_stages_run_and_finished_ones_are_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "work", tmp_path / "out", QUICK, workers=1)
    assert Flux1.load(tmp_path / "out" / "model").draw(["a sword"], [1], steps=4).shape == (1, 64, 64, 3)
    weights = tmp_path / "out" / "model" / "transformer" / "diffusion_pytorch_model.safetensors"
    before = weights.read_bytes()
    capfd.readouterr()
    make(tmp_path / "work", tmp_path / "out", QUICK, workers=1)
    assert capfd.readouterr().err.count("done in") == 0
    assert weights.read_bytes() == before


@pytest.mark.gpu
def test_all_stages_run_on_a_gpu(tmp_path: Path) -> None:
    make(tmp_path / "work", tmp_path / "out", QUICK, workers=1, device=torch.device("cuda"))
    assert Flux1.load(tmp_path / "out" / "model").draw(["a sword"], [1], steps=4).shape == (1, 64, 64, 3)


def test_the_code_is_a_projection_with_unit_scale() -> None:
    """Encoding what was decoded gives the same latents; variances average to one."""
    code = Code.fit(60, seed=0)
    z = code.encode(pictures(40, __import__("random").Random(3)))
    assert torch.allclose(code.encode(code.decode(z)), z, atol=1e-3)
    assert 0.6 < z.var(dim=(0, 2, 3)).mean() < 1.6


def test_a_checkpoint_goes_on_where_it_ended(tmp_path: Path) -> None:
    sentences = text.corpus(200, seed=0)
    text.write_clip_tokenizer(sentences, tmp_path / "tokenizer")
    text.write_t5_tokenizer(sentences, tmp_path / "tokenizer_2")
    world = flux.World.draw(16, 0, Code.fit(60, seed=0), lambda i: None)
    seen: list[int] = []
    for steps in (2, 3):
        torch.manual_seed(0)
        trainee = flux.Trainee(flux.build(), *text.build_towers(tmp_path), tmp_path)
        flux.train(
            trainee,
            world,
            steps=steps,
            cooldown=1,
            batch=4,
            seed=0,
            checkpoint=tmp_path / "flux.pt",
            tick=lambda step, _: seen.append(step),
        )
    assert seen == [0, 1, 2]


def test_known_words_are_one_token_and_misspelt_ones_letters(tmp_path: Path) -> None:
    sentences = text.corpus(2000, seed=0)
    text.write_clip_tokenizer(sentences, tmp_path / "tokenizer")
    text.write_t5_tokenizer(sentences, tmp_path / "tokenizer_2")
    clip, t5 = text.load_tokenizers(tmp_path)
    assert len(clip("a red sword").input_ids) == 5  # with start and end
    assert len(t5("a red sword").input_ids) == 4  # with end
    assert len(t5("a red swrod").input_ids) > 6
    ids, _ = text.tokenize(clip, t5, [""])
    assert ids.shape == (1, text.CLIP_LENGTH)
