"""A tiny random model of every family, with what is put into it; run as a program, it writes docs/models.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from safeflux.families import FAMILIES, MEANS, Family, works
from safeflux.families.chroma import CHROMA
from safeflux.families.flux1 import FLUX1
from safeflux.families.flux2 import FLUX2
from safeflux.families.qwen_image import QWEN_IMAGE
from safeflux.families.sd35 import SD35
from safeflux.families.z_image import Z_IMAGE
from safeflux.models.removed import transformer_class

Inputs = Callable[[], dict[str, Any]]

_FLUX = {
    "in_channels": 8, "num_layers": 2, "num_single_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2,
    "joint_attention_dim": 24,
}  # fmt: skip


@dataclass(frozen=True)
class Tiny:
    """``sites``: feed-forward layers in blocks that the default configuration of the class has, and their neurons.

    ``unheard``: sites of the last block whose stream ends there, so that nothing of them reaches the picture.
    """

    family: Family
    config: dict[str, Any]
    inputs: Inputs
    sites: tuple[int, int]
    name: str = ""
    unheard: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name or self.family.name


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def _flux(axes: int, **more: Tensor) -> dict[str, Any]:
    ids = torch.arange(4.0)[:, None].repeat(1, axes)
    return {
        "hidden_states": _random(2, 4, 8), "encoder_hidden_states": _random(2, 3, 24), "timestep": torch.tensor([0.2, 0.7]),
        "img_ids": ids, "txt_ids": torch.zeros(3, axes), **more,
    }  # fmt: skip


def _sd35() -> dict[str, Any]:
    return {
        "hidden_states": _random(2, 4, 8, 8), "encoder_hidden_states": _random(2, 3, 24), "pooled_projections": _random(2, 12),
        "timestep": torch.tensor([200.0, 700.0]),
    }  # fmt: skip


def _qwen() -> dict[str, Any]:
    return {
        "hidden_states": _random(2, 4, 8), "encoder_hidden_states": _random(2, 3, 24), "timestep": torch.tensor([0.2, 0.7]),
        "encoder_hidden_states_mask": torch.ones(2, 3, dtype=torch.bool), "img_shapes": [[(1, 2, 2)]] * 2,
    }  # fmt: skip


def _z_image() -> dict[str, Any]:
    return {"x": list(_random(2, 4, 1, 4, 4)), "t": torch.tensor([0.2, 0.7]), "cap_feats": list(_random(2, 3, 24))}


def _z_omni() -> dict[str, Any]:
    pictures, texts = _random(2, 4, 1, 4, 4), _random(2, 2, 3, 24)
    return {
        "x": [[_random(4, 1, 4, 4), one] for one in pictures], "t": torch.tensor([0.2, 0.7]), "cap_feats": [list(one) for one in texts],
        "siglip_feats": [[_random(2, 2, 20), None], [_random(2, 2, 20), None]], "image_noise_mask": [[0, 1], [0, 1]],
    }  # fmt: skip


_SD35 = {
    "sample_size": 8, "in_channels": 4, "out_channels": 4, "num_layers": 3, "attention_head_dim": 16, "num_attention_heads": 2,
    "joint_attention_dim": 24, "caption_projection_dim": 32, "pooled_projection_dim": 12, "pos_embed_max_size": 8,
}  # fmt: skip
_Z = {
    "in_channels": 4, "dim": 48, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 3, "n_kv_heads": 3, "cap_feat_dim": 24,
    "axes_dims": [4, 6, 6], "axes_lens": [128, 32, 32],
}  # fmt: skip
TINY = [
    Tiny(
        FLUX1, {**_FLUX, "pooled_projection_dim": 12, "axes_dims_rope": [4, 6, 6]},
        lambda: _flux(3, pooled_projections=_random(2, 12)), (76, 933_888),
    ),
    Tiny(
        FLUX2, {**_FLUX, "axes_dims_rope": [4, 4, 4, 4], "timestep_guidance_channels": 16},
        lambda: _flux(4, guidance=torch.tensor([3.5, 3.5])), (64, 1_179_648),
    ),
    Tiny(SD35, _SD35, _sd35, (35, 161_280)),
    Tiny(SD35, {**_SD35, "dual_attention_layers": [0], "qk_norm": "rms_norm"}, _sd35, (35, 161_280), "SD3.5 that attends twice"),
    Tiny(
        QWEN_IMAGE,
        {
            "in_channels": 8, "out_channels": 2, "num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2,
            "joint_attention_dim": 24, "axes_dims_rope": [4, 6, 6],
        },
        _qwen, (120, 1_474_560),
        unheard=("txt_mlp", *(f"txt_mod.{chunk}" for chunk in ("gate_msa", "shift_mlp", "scale_mlp", "gate_mlp")), "attn.to_add_out"),
    ),
    Tiny(Z_IMAGE, _Z, _z_image, (34, 348_160)),
    Tiny(Z_IMAGE, {**_Z, "siglip_feat_dim": 20}, _z_omni, (34, 348_160), "Z-Image that sees pictures"),
    Tiny(
        CHROMA,
        {**_FLUX, "axes_dims_rope": [4, 6, 6], "approximator_num_channels": 8, "approximator_hidden_dim": 16, "approximator_layers": 1},
        lambda: _flux(3), (76, 933_888),
    ),
]  # fmt: skip


def make(tiny: Tiny, root: Path) -> Path:
    """Write the model's ``transformer/`` and an index to ``root``, every weight random: biases and gates begin as zeros elsewhere."""
    torch.manual_seed(0)
    transformer = getattr(diffusers, tiny.family.transformer)(**tiny.config)
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    transformer.save_pretrained(root / "transformer")
    index = {"_class_name": next(iter(tiny.family.published.values())), "transformer": ["diffusers", tiny.family.transformer]}
    (root / "model_index.json").write_text(json.dumps(index))
    return root


def read(root: Path) -> Any:
    """The transformer of a directory, with its weights."""
    return transformer_class(root / "transformer").from_pretrained(root / "transformer").eval()


@torch.no_grad()
def drawn(transformer: nn.Module, tiny: Tiny) -> Tensor:
    """What the transformer makes of the inputs, as one tensor."""
    out = transformer(**tiny.inputs(), return_dict=False)[0]
    return out if isinstance(out, Tensor) else torch.stack(out)


EXAMPLE = """
from pathlib import Path

import torch

from safeflux.bake import bake
from safeflux.edits import empty_transformer, read_mask
from safeflux.models.declared import find_sites
from safeflux.models.sites import choose
from safeflux.types import Masks

base, baked = Path("model"), Path("baked")  # a diffusers directory, and where its transformer and index are written
sites = choose(find_sites(empty_transformer(base / "transformer")), ["neuron"])
mask = Masks({name: torch.rand(site.units) > 0.01 for name, site in sites.items()})  # what is True stays
bake(base, mask, baked)
read_mask(base / "transformer", baked / "transformer")  # the mask again, or an error if it is another model's
"""
DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"


def document() -> str:
    """The text of docs/models.md."""
    lines = [
        "# Which models",
        "",
        "A mask closes neurons of feed-forward layers, outputs of modulation layers, or attention heads. Where these are in a",
        "transformer is declared once for a family (`safeflux/families/`); what is found does not depend on the number of blocks or",
        "their width. `safeflux list models` prints this table.",
        "",
        "| family | models | transformer in diffusers | can be masked | modulation | single file | works |",
        "|---|---|---|---|---|---|---|",
        *(_row(family, word) for family in FAMILIES for word in MEANS if any(works(family, m) == word for m in family.published)),
        "",
        *(f"*{word}*: {meaning}\n" for word, meaning in MEANS.items()),
        "*modulation*: where it is *shared*, one layer shifts, scales and gates the numbers of all blocks. A mask of it takes from all",
        "of them at once, so `modulation` is refused in a choice of sites, and the layer has to be named, as in",
        "`choose(sites, ['neuron', 'double_stream_modulation_img'])`. Where it is *none*, one small network makes the modulation of every",
        "block, and no layer of it belongs to a block. What comes after the last block is not masked in any family.",
        "",
        "*single file*: whether SafeFlux knows the names that the tensors have in the file the model was published as.",
        "",
        "A neuron of a gated layer (FLUX.2, Z-Image) has two input rows; both go with it. These layers have no biases.",
        "",
        "```python",
        *EXAMPLE.strip().splitlines(),
        "```",
        "",
        "## What was tested",
        "",
        "`tests/models/test_families.py`, on tiny random models of every family, built by diffusers: what a closed gate does is what",
        "zeroed weights do, bit by bit, for every site alone and for a third of all of them; with neurons cut out, of one layer all, it",
        "is the same within 1e-5 of the largest number; the mask is read back from the weights; stock diffusers refuses a model with",
        "neurons cut out, and loads it after `import safeflux`. At the sizes that diffusers builds by default:",
        "",
        "| transformer | feed-forward layers in blocks | neurons |",
        "|---|---|---|",
        *(f"| {tiny.family.transformer} | {tiny.sites[0]} | {tiny.sites[1]:,} |" for tiny in TINY if not tiny.name),
        "",
        "The published weights themselves were not loaded.",
    ]
    return "\n".join(lines) + "\n"


def _row(family: Family, word: str) -> str:
    names = [name.partition("/")[2] for name in family.published if works(family, name) == word]
    cells = [family.name, ", ".join(names), f"`{family.transformer}`", ", ".join(family.kinds), family.scope]
    return f"| {' | '.join(cells)} | {'yes' if family.single_file else 'no'} | {word} |"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
