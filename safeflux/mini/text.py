"""The mini's text side: real CLIP and T5 tokenizers trained on the world's captions, and the two small towers."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

from safeflux.mini.captions import caption, random_scene

WIDTH = 128  # of both towers
CLIP_LENGTH = 24
T5_LENGTH = 20
_START, _END = "<|startoftext|>", "<|endoftext|>"


def corpus(n: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    sentences = []
    for _ in range(n):
        scene, generic = random_scene(rng)
        sentences.append(caption(scene, rng, generic=generic, synonym=0.5, typo=0.0))
    return sentences


def write_clip_tokenizer(sentences: list[str], directory: Path) -> None:
    """Byte-level BPE in CLIP's own files, ``vocab.json`` and ``merges.txt``, which every version of transformers reads."""
    directory.mkdir(parents=True, exist_ok=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    bpe.train_from_iterator(sentences, trainers.BpeTrainer(vocab_size=900, end_of_word_suffix="</w>", show_progress=False))
    merges = [tuple(m) for m in json.loads(bpe.to_str())["model"]["merges"]]
    symbols = [*sorted(alphabet), *(f"{c}</w>" for c in sorted(alphabet)), *("".join(m) for m in merges)]
    vocab = {s: i for i, s in enumerate(dict.fromkeys([*symbols, _START, _END]))}
    (directory / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (directory / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n", encoding="utf-8")
    special = {"bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": _END}
    (directory / "special_tokens_map.json").write_text(json.dumps(special, indent=2))
    config = {**special, "do_lower_case": True, "model_max_length": CLIP_LENGTH, "tokenizer_class": "CLIPTokenizer"}
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


def write_t5_tokenizer(sentences: list[str], directory: Path) -> None:
    """A unigram model in ``tokenizer.json`` with T5's special tokens: the corpus' words by frequency, and single letters.

    Letters are so unlikely that a known word is always one piece, and a misspelt one falls into letters.
    """
    directory.mkdir(parents=True, exist_ok=True)
    counts = Counter(word for sentence in sentences for word in sentence.split())
    total = sum(counts.values())
    words = [(f"\u2581{word}", math.log(count / total)) for word, count in sorted(counts.items()) if count >= 5]
    letters = [(c, -20.0) for c in "\u2581abcdefghijklmnopqrstuvwxyz0123456789'-,.!?"]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -30.0)]
    unigram = Tokenizer(models.Unigram([*special, *words, *(x for x in letters if x[0] not in dict(words))], unk_id=2))
    unigram.normalizer = normalizers.Lowercase()
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    T5TokenizerFast(
        tokenizer_object=_with_end(unigram), extra_ids=0, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", model_max_length=T5_LENGTH
    ).save_pretrained(directory)
    path = directory / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {"tokenizer_class": "T5TokenizerFast", "model_max_length": T5_LENGTH}
    config.pop("extra_special_tokens", None)  # an empty list, which transformers 4 stops at
    path.write_text(json.dumps(config, indent=2))


def _with_end(tokenizer: Tokenizer) -> Tokenizer:
    end = tokenizer.token_to_id("</s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["$A", "</s>"], pair=["$A", "</s>", "$B", "</s>"], special_tokens=[("</s>", end)]
    )
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def load_tokenizers(root: Path) -> tuple[CLIPTokenizer, T5TokenizerFast]:
    return CLIPTokenizer.from_pretrained(root / "tokenizer"), T5TokenizerFast.from_pretrained(root / "tokenizer_2")


def build_towers(root: Path) -> tuple[CLIPTextModel, T5EncoderModel]:
    """Fresh towers for the tokenizers under ``root``."""
    clip, t5 = load_tokenizers(root)
    return (
        CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(clip), hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=2, num_attention_heads=4,
                max_position_embeddings=CLIP_LENGTH, projection_dim=WIDTH, bos_token_id=clip.bos_token_id,
                eos_token_id=clip.eos_token_id, pad_token_id=clip.pad_token_id,
            )
        ),
        T5EncoderModel(
            T5Config(
                vocab_size=len(t5), d_model=WIDTH, d_kv=32, d_ff=2 * WIDTH, num_layers=2, num_heads=4, dropout_rate=0.0,
                feed_forward_proj="gated-gelu", is_encoder_decoder=False, use_cache=False, pad_token_id=0, eos_token_id=1,
                tie_word_embeddings=False,
            )
        ),
    )  # fmt: skip


def tokenize(clip: CLIPTokenizer, t5: T5TokenizerFast, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Token ids as FluxPipeline makes them: ``[n, CLIP_LENGTH]`` and ``[n, T5_LENGTH]``, padded, without masks."""
    options = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    return (
        clip(texts, max_length=CLIP_LENGTH, **options).input_ids.to(torch.int32),
        t5(texts, max_length=T5_LENGTH, **options).input_ids.to(torch.int32),
    )
