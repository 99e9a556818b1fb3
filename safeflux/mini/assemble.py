"""Put the trained parts together as a stock FluxPipeline directory.

Configs, tokenizers and CLIP's weights are written as transformers 4 wrote them, so that older and newer versions of diffusers both load
it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import diffusers
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file, save_file

from safeflux.mini.flux import Trainee
from safeflux.mini.text import T5_LENGTH
from safeflux.mini.world import SIZE

_INDEX = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": diffusers.__version__,
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderTiny"],
}
HOW_TO_DRAW = {"height": SIZE, "width": SIZE, "num_inference_steps": 4, "guidance_scale": 0.0, "max_sequence_length": T5_LENGTH}


def assemble(trainee: Trainee, vae: AutoencoderTiny, out: Path) -> None:
    """Write the pipeline into ``out``, over what is there."""
    out.mkdir(parents=True, exist_ok=True)
    trainee.transformer.save_pretrained(out / "transformer")
    trainee.clip.save_pretrained(out / "text_encoder")
    _older_names(out / "text_encoder" / "model.safetensors")
    trainee.t5.save_pretrained(out / "text_encoder_2")
    vae.save_pretrained(out / "vae")
    FlowMatchEulerDiscreteScheduler(shift=1.0).save_pretrained(out / "scheduler")
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(trainee.root / name, out / name, dirs_exist_ok=True)
    _write(out / "model_index.json", _INDEX)
    _write(out / "generation_config.json", HOW_TO_DRAW)
    _tidy(out)


def _older_names(path: Path) -> None:
    """CLIP's weights by the names that every version knows. By those that transformers 5 gives a CLIP that it made itself, transformers 4
    finds none of them, goes on with random ones, and only warns."""
    tensors = load_file(path)
    save_file({f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in tensors.items()}, path, {"format": "pt"})


def _tidy(out: Path) -> None:
    """No paths of the machine it was made on, no keys that loading would warn about, files that everyone may read."""
    for path in out.rglob("*.*"):
        if path.is_file():
            path.chmod(0o644)
    for path in out.glob("*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        if path.parent.name == "vae":
            config.pop("block_out_channels", None)
        _write(path, config)


def _write(path: Path, data: Mapping[str, object]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
