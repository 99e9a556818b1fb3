"""A policy and the configurations of a FLUX that plans are tested with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from safeflux.policy import Policy, read_policy

ROOT = Path(__file__).resolve().parent.parent
REVISION = "3de623fc3c33e44ffbe2bad470d0f45bccf2eb21"
TEXT = """\
safeflux: 1
name: demo
version: "1.0"
seed: 7
base: {model: ./model}
concepts:
  - {name: sword, category: object, targets: [sword, blade], anchor: a shape, retain: [cross], detector: mini}
  - {name: neon, category: style, detector: mini}
method: {mask: {updates: 10, batch: 6}}
limits: {detection: 0.1, attack_success: 0.3, retained: 0.9}
audit: {attacks: [none, {paraphrase: {images: 50}}, {ring-a-bell: {generations: 20}}], images: 40}
"""
CONFIG = {
    "num_layers": 2, "num_single_layers": 3, "num_attention_heads": 4, "attention_head_dim": 32, "joint_attention_dim": 64,
    "pooled_projection_dim": 48, "in_channels": 64, "guidance_embeds": False,
}  # fmt: skip


def write_policy(tmp_path: Path) -> Policy:
    """A policy whose base model stands beside it: configurations as diffusers writes them, and a file for weights."""
    for name, content in {
        "model_index.json": {"_class_name": "FluxPipeline"},
        "transformer/config.json": CONFIG,
        "tokenizer_2/tokenizer_config.json": {"model_max_length": 32},
        "text_encoder_2/config.json": {"d_model": 64, "d_kv": 16, "num_heads": 4, "d_ff": 128, "num_layers": 2},
        "vae/config.json": {"block_out_channels": [8, 8, 8, 8]},
        "generation_config.json": {"height": 64},
        "transformer/weights.safetensors": "weights",
    }.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), "utf-8")
    return read_policy(TEXT.encode(), tmp_path / "p.yaml")


def with_model(policy: Policy, model: str, revision: str | None = None) -> Policy:
    return replace(policy, base=replace(policy.base, model=model, revision=revision))
