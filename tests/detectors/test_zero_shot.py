"""A tiny CLIP with random weights, saved like a real one: as a detector, and as the embedder of real models."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from safeflux.detectors.zero_shot import zero_shot
from safeflux.errors import StageError
from safeflux.metrics import clip

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 255, (5, 20, 24, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz,."
    vocab = {symbol: i for i, symbol in enumerate([*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"])}
    (root / "vocab.json").write_text(json.dumps(vocab))
    (root / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(root, model_max_length=40)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = size | {"vocab_size": len(tokenizer), "max_position_embeddings": 40, "bos_token_id": 56, "eos_token_id": 57, "pad_token_id": 57}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=size | {"image_size": 16, "patch_size": 8}, projection_dim=8))
    model.logit_scale.data.fill_(2.0)
    model.save_pretrained(root)
    pictures = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    CLIPProcessor(image_processor=pictures, tokenizer=tokenizer).save_pretrained(root)
    return root


def test_probability_is_that_of_the_label_among_all_captions(directory: Path) -> None:
    detect = zero_shot(model=str(directory), templates=("{}",), negatives=("b", "c"), batch=2)
    by_label = np.stack([zero_shot(model=str(directory), templates=("{}",), negatives=n).probability(IMAGES, x) for x, n in (
        ("a", ("b", "c")), ("b", ("c", "a")), ("c", ("a", "b")))])  # fmt: skip
    assert detect.probability(IMAGES, "a") == pytest.approx(by_label[0])  # batches of two, and all at once
    assert by_label.sum(axis=0) == pytest.approx(np.ones(5))
    assert np.ptp(by_label) > 0.001


def test_the_embedder_gives_its_layers(directory: Path) -> None:
    """One layer of 2 x 2 patches and a class token, 16 wide; one picture's do not depend on the others."""
    embed = clip.load(str(directory))
    (layer,) = embed.layers(IMAGES)
    assert layer.shape == (5, 16, 5)
    assert embed.layers(IMAGES[2:3])[0][0] == pytest.approx(layer[2], abs=1e-5)


def test_it_is_the_models_own_classification(directory: Path) -> None:
    detect = zero_shot(model=str(directory), templates=("a {}",), negatives=("a tree",))
    embed = clip.load(str(directory))
    logits = np.exp(2.0) * embed.images(IMAGES) @ embed.texts(["a sword", "a tree"]).T
    wanted = 1 / (1 + np.exp(logits[:, 1] - logits[:, 0]))
    assert detect.probability(IMAGES, "sword") == pytest.approx(wanted, abs=1e-4)


def test_it_fires_above_its_threshold(directory: Path) -> None:
    probability = zero_shot(model=str(directory)).probability(IMAGES, "sword")
    middle = float(np.median(probability))
    assert zero_shot(model=str(directory), threshold=middle)(IMAGES, "sword").tolist() == (probability > middle).tolist()
    assert 0 < (probability > middle).sum() < 5


def test_several_templates_count_together_and_a_label_among_the_negatives_only_once(directory: Path) -> None:
    one, two = (zero_shot(model=str(directory), templates=t, negatives=("b",)).probability(IMAGES, "a") for t in (("{}",), ("{}", "a {}")))
    assert (two > one).all()
    assert zero_shot(model=str(directory), templates=("{}",), negatives=("b", "a")).probability(IMAGES, "a") == pytest.approx(one)


def test_the_digest_pins_the_weights(directory: Path) -> None:
    before = zero_shot(model=str(directory)).digest
    assert before == zero_shot(model=str(directory)).digest
    (directory / "note").write_text("changed")
    assert zero_shot(model=str(directory)).digest != before
    (directory / "note").unlink()


def test_what_cannot_be_loaded_or_compared_is_said(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="cannot load"):
        zero_shot(model=str(tmp_path))
    with pytest.raises(StageError, match="at least one template and one negative"):
        zero_shot(model=str(directory), negatives=())
    with pytest.raises(StageError, match="cannot be loaded"):
        clip.load(str(tmp_path))


def test_embeddings_are_unit_vectors_of_one_space(directory: Path) -> None:
    embed = clip.load(str(directory))
    images, texts = embed.images(IMAGES), embed.texts(["a sword", "a very long text, " * 9])
    assert images.shape == (5, 8)
    assert texts.shape == (2, 8)
    assert np.linalg.norm(np.concatenate([images, texts]), axis=1) == pytest.approx(np.ones(7), abs=1e-5)
    assert images[2:3] == pytest.approx(embed.images(IMAGES[2:3]), abs=1e-5)
