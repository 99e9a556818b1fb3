"""A FLUX as other versions of diffusers and transformers save it and draw it.

Run as a program, by the Python that has those versions, this file needs no safeflux; ``run`` is how tests have it do something.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

OLDER = os.environ.get("SAFEFLUX_OPTIMUM")  # a Python with transformers 4 and diffusers 0.36, which optimum needs
WITHOUT = "SAFEFLUX_OPTIMUM names no Python with transformers 4 and diffusers 0.36"
TEXTS = ["a sword", "A cat in the meadow:  two cats, and 2 birds "]
LENGTH = 20  # of what T5 reads
DONE = "done"


def run(python: str, *orders: tuple[str, ...]) -> list[str]:
    """Have a new process of ``python`` do ``orders``, each a function of ``ORDERS`` and its arguments; ``DONE``, or the error of each."""
    with tempfile.TemporaryDirectory() as place:
        answered = Path(place, "answer.json")
        command = [python, "-P", "-W", "ignore", __file__, json.dumps(orders), str(answered)]
        quiet = {"TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error", "PYTHONPATH": ""}
        subprocess.run(command, env=os.environ | quiet, cwd=place, check=True, capture_output=True, text=True)
        said: list[str] = json.loads(answered.read_text(encoding="utf-8"))
        return said


def save(out: str, prefix: str) -> None:
    """A tiny random FLUX.1-dev, in shards; ``prefix``: what T5's tokenizer is told of a space before a text: "yes", as FLUX.1's, or ""."""
    import torch
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    with tempfile.TemporaryDirectory() as place:
        clip, t5 = _tokenizers(Path(place), {"add_prefix_space": True} if prefix else {})
        torch.manual_seed(0)
        parts = {
            "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
            "vae": AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=(8, 8),
                norm_num_groups=4, latent_channels=16, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1,
            ),
            "text_encoder": CLIPTextModel(
                CLIPTextConfig(
                    vocab_size=len(clip), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                    bos_token_id=clip.bos_token_id, eos_token_id=clip.eos_token_id, pad_token_id=clip.pad_token_id,
                )
            ),
            "text_encoder_2": T5EncoderModel(
                T5Config(
                    vocab_size=len(t5) + 20, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu",
                    tie_word_embeddings=False,
                )
            ),
            "transformer": FluxTransformer2DModel(
                num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32,
                pooled_projection_dim=32, guidance_embeds=True, axes_dims_rope=(4, 6, 6),
            ),
        }  # fmt: skip
        FluxPipeline(tokenizer=clip, tokenizer_2=t5, **parts).save_pretrained(out, max_shard_size="40KB")


def _tokenizers(place: Path, told: dict[str, bool]) -> tuple[Any, Any]:
    """CLIP's and T5's own, for a few words. Only transformers 4 makes them of such files."""
    import sentencepiece
    from transformers import CLIPTokenizer, T5TokenizerFast

    (place / "texts").write_text("a sword\na cat in the meadow\na house at night\na green tree and two birds\n" * 5)
    sentencepiece.SentencePieceTrainer.train(
        input=str(place / "texts"), model_prefix=str(place / "spiece"), vocab_size=60, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    letters = "abcdefghijklmnopqrstuvwxyz"
    symbols = [*letters, *(f"{c}</w>" for c in letters), "ca", "cat</w>", "sw", "<|startoftext|>", "<|endoftext|>"]
    (place / "vocab.json").write_text(json.dumps({symbol: i for i, symbol in enumerate(symbols)}))
    (place / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\ns w\n")
    clip = CLIPTokenizer(str(place / "vocab.json"), str(place / "merges.txt"), model_max_length=77)
    return clip, T5TokenizerFast(str(place / "spiece.model"), extra_ids=100, model_max_length=512, **told)


def again(source: str, out: str) -> None:
    """Loaded and saved."""
    from diffusers import FluxPipeline

    FluxPipeline.from_pretrained(source).save_pretrained(out, max_shard_size="40KB")


def own_clip(source: str, out: str) -> None:
    """``source``, of which CLIP is saved by a model that was made, and not loaded from a file: with the same weights."""
    from transformers import CLIPTextModel

    shutil.copytree(source, out)
    loaded = CLIPTextModel.from_pretrained(Path(out, "text_encoder"))
    made = CLIPTextModel(loaded.config)
    made.load_state_dict(loaded.state_dict())
    shutil.rmtree(Path(out, "text_encoder"))
    made.save_pretrained(Path(out, "text_encoder"))


def draw(source: str, out: str, *others: str) -> None:
    """What the pipeline's text encoders make of ``TEXTS``, or of others, and the latents that it draws of them, each from its own noise."""
    import torch
    from diffusers import FluxPipeline
    from safetensors.torch import save_file

    pipe, texts = FluxPipeline.from_pretrained(source), list(others) or TEXTS
    with torch.no_grad():
        sequence, pooled, _ = pipe.encode_prompt(prompt=texts, prompt_2=texts, max_sequence_length=LENGTH)
    noise = [torch.Generator().manual_seed(seed) for seed in range(len(texts))]
    how = {"height": 32, "width": 32, "num_inference_steps": 4, "max_sequence_length": LENGTH, "output_type": "latent"}
    save_file({"sequence": sequence, "pooled": pooled, "latents": pipe(texts, generator=noise, **how).images}, out)


def encode(source: str, out: str) -> None:
    """What the text encoders alone make of tokens."""
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPTextModel, T5EncoderModel

    clip, t5 = (
        kind.from_pretrained(Path(source, part)) for kind, part in ((CLIPTextModel, "text_encoder"), (T5EncoderModel, "text_encoder_2"))
    )
    with torch.no_grad():
        pooled = clip(torch.tensor([[*range(20), clip.config.eos_token_id]])).pooler_output
        save_file({"pooled": pooled, "sequence": t5(torch.arange(1, 60)[None]).last_hidden_state}, out)


def tokens(source: str, out: str) -> None:
    """What the tokenizers make of ``TEXTS`` and of harder ones."""
    from transformers import CLIPTokenizer, T5TokenizerFast

    texts = [
        *TEXTS,
        "",
        "cat<extra_id_0> cat",
        "</s> a\tcat",
        "the meadow's \u201ccat\u201d \u2014 na\u00efve",
        "<|endoftext|> cat",
        "A CAT!!",
    ]
    clip, t5 = CLIPTokenizer.from_pretrained(Path(source, "tokenizer")), T5TokenizerFast.from_pretrained(Path(source, "tokenizer_2"))
    Path(out).write_text(json.dumps([[read(text, padding="max_length", max_length=30).input_ids for read in (clip, t5)] for text in texts]))


def draw_onnx(source: str, out: str, texts: str, how: str) -> None:
    """What optimum's pipeline draws of an ONNX export, each text from the noise of its place in the list: latents, and pictures of 0..1."""
    import torch
    from optimum.onnxruntime import ORTFluxPipeline
    from safetensors.torch import save_file

    pipe, prompts, options = ORTFluxPipeline.from_pretrained(source), json.loads(texts), json.loads(how)
    found = {}
    for kind in ("latent", "pt"):
        noise = [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]
        found[kind] = torch.as_tensor(pipe(prompts, generator=noise, output_type=kind, **options).images).float().contiguous()
    save_file(found, out)


def with_safeflux(root: str) -> None:
    """All that follows in this process is done after ``import safeflux``, from ``root``."""
    sys.path.insert(0, root)
    importlib.import_module("safeflux")


ORDERS: dict[str, Callable[..., None]] = {
    one.__name__: one for one in (save, again, own_clip, draw, encode, tokens, draw_onnx, with_safeflux)
}


def main(orders: str, answered: str) -> None:
    said = []
    for name, *arguments in json.loads(orders):
        try:
            ORDERS[name](*arguments)
            said.append(DONE)
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
    Path(answered).write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
