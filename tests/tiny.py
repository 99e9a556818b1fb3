"""The one fake: a tiny random FLUX with the topology, names and file layout of the real one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, FluxTransformer2DModel
from transformers import T5EncoderModel

from safeflux.mini import text
from safeflux.mini.assemble import assemble
from safeflux.mini.flux import Trainee
from safeflux_signing import keys
from safeflux_signing.sign import sign


def transformer(*, blocks: int = 2, heads: int = 2, head_dim: int = 16, guidance: bool = False, seed: int = 0) -> FluxTransformer2DModel:
    """``blocks`` double and as many single blocks of random weights."""
    torch.manual_seed(seed)
    rope = (head_dim // 8, *[(head_dim - head_dim // 8) // 2] * 2) if head_dim > 16 else (4, 6, 6)
    model = FluxTransformer2DModel(
        in_channels=64, num_layers=blocks, num_single_layers=blocks, attention_head_dim=head_dim, num_attention_heads=heads,
        joint_attention_dim=text.WIDTH, pooled_projection_dim=text.WIDTH, guidance_embeds=guidance, axes_dims_rope=rope,
    )  # fmt: skip
    return model.eval()


def make_tiny(root: Path, *, seed: int = 0, guidance: bool = False, model: FluxTransformer2DModel | None = None) -> Path:
    """Write a tiny FluxPipeline directory (or one around ``model``) to ``root / "model"`` and return that path."""
    sentences = text.corpus(300, seed=0)
    text.write_clip_tokenizer(sentences, root / "text" / "tokenizer")
    text.write_t5_tokenizer(sentences, root / "text" / "tokenizer_2")
    torch.manual_seed(seed)
    clip, t5 = text.build_towers(root / "text")
    widths = (8,) * 4
    vae = AutoencoderTiny(
        encoder_block_out_channels=widths, decoder_block_out_channels=widths, num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1), latent_channels=16, scaling_factor=1.0, shift_factor=0.0,
    )  # fmt: skip
    assemble(Trainee(model or transformer(guidance=guidance, seed=seed), clip, t5, root / "text"), vae, root / "model")
    (root / "model" / "generation_config.json").write_text(json.dumps({"height": 32, "width": 32}))
    return root / "model"


def make_signed(tiny: Path, place: Path) -> Path:
    """A copy of ``tiny``, its transformer and T5 in several shards each, signed by ``publisher.key`` beside it; that directory."""
    keys.new(place / "publisher.key", None)
    release = Path(shutil.copytree(tiny, place / "release"))
    for kind, part in ((FluxTransformer2DModel, "transformer"), (T5EncoderModel, "text_encoder_2")):
        model = kind.from_pretrained(release / part)
        shutil.rmtree(release / part)
        model.save_pretrained(release / part, max_shard_size="200KB")
        assert len(list((release / part).glob("*model-0000*.safetensors"))) > 2
    (release / "scheduler" / "evil.py").write_text("raise SystemExit")
    sign(release, keys.load_private(place / "publisher.key"), release_id="tiny-1.0", sequence=1)
    return release
