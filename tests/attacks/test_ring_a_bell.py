"""Ring-A-Bell on a tiny CLIP and T5 with random weights: it finds texts nearer to the concept, and keeps to its rules."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from tokenizers.decoders import Metaspace
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

from safeflux.attacks.meaning import contrast, direction, distance, embed
from safeflux.attacks.ring_a_bell import ring_a_bell
from safeflux.attacks.vocabulary import banned_words, genes, says, texts_of
from safeflux.policy import Choice, Concept
from safeflux.types import AuditTask

WORDS = (
    "sword", "blade", "tree", "house", "cat", "star", "start", "moon", "sun", "red", "blue", "a", "the", "of", "picture", "image", "on",
    "in", "beach", "meadow", "show", "me", "draw", "there", "is",
)  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SWORD = Concept("sword", "object", ("sword", "blade"), "", ("cross",), Choice("mini"), "sword")
SMALL = {"texts": 2, "pairs": 8, "length": 6, "population": 16, "generations": 12}


@dataclass
class TextSide:
    """What of a FLUX the search needs; it draws black pictures and counts the texts that went through CLIP."""

    tokenizer: CLIPTokenizer
    tokenizer_2: T5TokenizerFast
    text_encoder: CLIPTextModel
    text_encoder_2: T5EncoderModel
    max_length: int = 14
    device: str = "cpu"
    drawn: list[tuple[str, int]] = field(default_factory=list)

    def draw_with_latents(self, texts: list[str], seeds: list[int], *, steps: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
        self.drawn += zip(texts, seeds, strict=True)
        return np.zeros((len(texts), 2, 2, 3), np.uint8), np.zeros((len(texts), 4, 3), np.float32)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> TextSide:
    root = tmp_path_factory.mktemp("clip")
    merges = [(word[: i + 1], word[i + 1] + ("</w>" if i + 2 == len(word) else "")) for word in WORDS for i in range(len(word) - 1)]
    symbols = [*LETTERS, *(f"{c}</w>" for c in LETTERS), *("".join(merge) for merge in merges), "<|startoftext|>", "<|endoftext|>"]
    vocab = {symbol: i for i, symbol in enumerate(dict.fromkeys(symbols))}
    (root / "vocab.json").write_text(json.dumps(vocab))
    (root / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(merge) for merge in dict.fromkeys(merges)) + "\n")
    clip = CLIPTokenizer.from_pretrained(root, model_max_length=12)
    t5 = _t5_tokenizer()
    torch.manual_seed(0)
    size = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": clip.bos_token_id, "eos_token_id": clip.eos_token_id, "pad_token_id": clip.pad_token_id}
    return TextSide(
        clip, t5,
        CLIPTextModel(CLIPTextConfig(vocab_size=len(clip), max_position_embeddings=12, **size, **ends)).eval(),
        T5EncoderModel(T5Config(vocab_size=len(t5), d_model=24, d_kv=12, d_ff=48, num_layers=1, num_heads=2)).eval(),
    )  # fmt: skip


def _t5_tokenizer() -> T5TokenizerFast:
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", -30.0),
        *((f"▁{word}", -2.0) for word in WORDS),
        *((c, -20.0) for c in f"▁{LETTERS}"),
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single=["$A", "</s>"], special_tokens=[("</s>", 1)])
    return T5TokenizerFast(
        tokenizer_object=tokenizer, extra_ids=0, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", model_max_length=14
    )


@pytest.fixture
def model(encoders: TextSide) -> TextSide:
    return replace(encoders, drawn=[])


def task(cache: Path | None = None, seed: int = 1) -> AuditTask:
    return AuditTask((SWORD,), ("tree", "house"), seed, steps=4, batch=8, cache=cache)


def run(model: TextSide, task: AuditTask, **options: object) -> list[str]:
    """The distinct texts drawn."""
    samples: Iterator = ring_a_bell(model, task, images=6, **SMALL | options)  # type: ignore[arg-type, type-arg]
    return list(dict.fromkeys(sample.prompt.text for sample in samples))


def test_embeddings_are_those_of_the_pipeline(model: TextSide) -> None:
    texts = ["a red sword", "the moon on the beach and far more words than the encoder reads at once"]
    pipe = FluxPipeline(None, None, model.text_encoder, model.tokenizer, model.text_encoder_2, model.tokenizer_2, None)
    sequence, pooled, _ = pipe.encode_prompt(texts, None, device="cpu", max_sequence_length=14)
    clip, t5 = embed(model, texts, "both")  # type: ignore[arg-type]
    assert clip == pytest.approx(pooled.detach().numpy(), abs=1e-5)
    assert t5 == pytest.approx(sequence.detach().mean(dim=1).numpy(), abs=1e-5)
    for against, whole in (("clip", clip), ("t5", t5)):
        (alone,) = embed(model, texts, against)  # type: ignore[arg-type]
        assert alone == pytest.approx(whole)


def test_contrast_pairs_differ_in_the_concept_alone() -> None:
    pairs = contrast(SWORD, ("tree", "house"), 40, random.Random(0))
    assert len(set(pairs)) == 40
    for present, absent in pairs:
        word, other = (
            next(w for w in words if w in text.split()) for text, words in ((present, SWORD.targets), (absent, ("tree", "house")))
        )
        assert present.replace(word, other) == absent
    anchored = contrast(replace(SWORD, anchor="a shape"), ("tree",), 5, random.Random(0))
    assert all("a shape" in absent for _, absent in anchored)
    style = replace(SWORD, category="style", targets=("neon",))
    assert all("neon" in present and absent.startswith("a picture of ") for present, absent in contrast(style, (), 9, random.Random(0)))


def test_the_concept_vector_leads_from_the_sentences_without_it_to_those_with_it(model: TextSide) -> None:
    pairs = contrast(SWORD, ("tree", "house"), 8, random.Random(0))
    way = direction(model, pairs, "both")  # type: ignore[arg-type]
    present, absent = (embed(model, side, "both") for side in zip(*pairs, strict=True))  # type: ignore[arg-type]
    for vector, spread, with_it, without in zip(way.vectors, way.spreads, present, absent, strict=True):
        assert without.mean(axis=0) + vector[0] == pytest.approx(with_it.mean(axis=0))
        sides = (with_it - with_it.mean(axis=0), without - without.mean(axis=0))
        assert spread == pytest.approx(np.mean([(side**2).sum(axis=1) for side in sides]))
    centre = [with_it.mean(axis=0, keepdims=True) for with_it in present]
    assert distance(centre, centre, way.spreads) == pytest.approx([0])
    assert distance(present, centre, way.spreads).mean() < distance(absent, centre, way.spreads).mean()


@pytest.mark.parametrize("against", ["clip", "t5", "both"])
def test_the_search_comes_nearer_to_the_concept(model: TextSide, against: str, tmp_path: Path) -> None:
    run(model, task(tmp_path), against=against)
    (path,) = tmp_path.iterdir()
    found = json.loads(path.read_text())
    assert len(found) == 2
    for one in found:
        assert one["loss"] < one["start"]
        assert 16 < one["evaluations"] <= 16 + 12 * 8


@pytest.mark.parametrize("against", ["clip", "t5"])
def test_names_and_their_pieces_are_banned_unless_allowed(model: TextSide, against: str) -> None:
    tokenizer = model.tokenizer_2 if against == "t5" else model.tokenizer
    allowed = texts_of(tokenizer, genes(tokenizer, SWORD.targets)[:, None])
    everything = texts_of(tokenizer, genes(tokenizer)[:, None])
    assert {"sword", "blade"} & set(everything) == {"sword", "blade"}
    assert not {"sword", "blade"} & set(allowed)
    assert {"tree", "star", "s", "w"} <= set(allowed)
    assert "" not in everything
    words = banned_words(SWORD.targets)
    assert not any(says(text, words) for text in run(model, task(), against=against, coefficient=1.0))


def test_without_the_ban_the_name_itself_is_found(model: TextSide) -> None:
    options = {"coefficient": 1.0, "generations": 40, "population": 40, "length": 3}
    texts = run(model, task(), ban=False, **options)
    assert any(says(text, banned_words(SWORD.targets)) for text in texts)


@pytest.mark.parametrize(("text", "said"), [
    ("a sword", True), ("SWORD!", True), ("swordfish", True), ("sw ord", True), ("s.w.o.r.d", True), ("words", False),
    ("an art deco house", True), ("a party", False), ("the tree", False),
])  # fmt: skip
def test_what_counts_as_saying_it(text: str, said: bool) -> None:
    assert says(text, banned_words(("sword", "the art of"))) is said


def test_it_is_deterministic_in_the_seed_of_the_task(model: TextSide) -> None:
    assert run(model, task()) == run(model, task())
    assert run(model, task()) != run(model, task(seed=2))


def test_texts_are_searched_once_and_drawn_with_noise_of_their_own(model: TextSide, tmp_path: Path) -> None:
    run(model, task(tmp_path))
    first, model.drawn = model.drawn, []
    seen: list[str] = []
    run(model, replace(task(tmp_path), progress=lambda stage, done, total: seen.append(stage)))
    assert model.drawn == first
    assert seen == ["ring-a-bell"]  # drawing; no search
    assert len({seed for _, seed in first}) == len(first) == 6
    assert sorted(first.count(pair) for pair in first) == [1] * 6
    run(model, task(tmp_path), coefficient=2.0)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_search_that_was_cut_short_goes_on_where_it_was(model: TextSide, tmp_path: Path) -> None:
    whole = run(model, task(tmp_path))
    (path,) = tmp_path.iterdir()
    path.write_text(json.dumps(json.loads(path.read_text())[:1]))
    seen: list[tuple[str, int, int]] = []
    assert run(model, replace(task(tmp_path), progress=lambda *step: seen.append(step))) == whole
    assert seen[0] == ("ring-a-bell, texts for sword", 13, 24)
