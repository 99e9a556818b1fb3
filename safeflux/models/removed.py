"""A FLUX.1 of which single neurons were cut out, so that its feed-forward layers are of different widths.

Stock diffusers has one width for all of them. With ``import safeflux``, ``FluxPipeline.from_pretrained`` finds this class under the
name that the release's ``model_index.json`` gives, and no code of the release is run.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import FluxTransformer2DModel
from diffusers.configuration_utils import register_to_config
from torch import nn

from safeflux.errors import ModelError
from safeflux.models.flux1_sites import find_sites

CLASS = ("safeflux", "SafeFluxTransformer2DModel")  # what model_index.json says
# The one thing in a configuration that makes every stock loader stop. Without it, one that is told to ignore sizes that do not fit
# fills what it cannot read with whatever lies in memory, and goes on.
GUARD = {"quant_method": "none, but neurons that were cut out: pip install safeflux, import safeflux, then load it as a FluxPipeline"}


class SafeFluxTransformer2DModel(FluxTransformer2DModel):  # type: ignore[misc]
    """``FluxTransformer2DModel`` with ``widths``: neurons by site (``transformer_blocks.0.ff``), where they are not the usual ones.

    Everything else is the stock class's: number formats, shards, device maps, gradient checkpointing, LoRA, compiling (block by block,
    a graph for each width).
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        patch_size: int = 1,
        in_channels: int = 64,
        out_channels: int | None = None,
        num_layers: int = 19,
        num_single_layers: int = 38,
        attention_head_dim: int = 128,
        num_attention_heads: int = 24,
        joint_attention_dim: int = 4096,
        pooled_projection_dim: int = 768,
        guidance_embeds: bool = False,
        axes_dims_rope: tuple[int, int, int] = (16, 56, 56),
        widths: Mapping[str, int] | None = None,
        quantization_config: Mapping[str, str] = GUARD,
    ) -> None:
        stock = {name: value for name, value in locals().items() if name not in ("self", "widths", "quantization_config", "__class__")}
        super().__init__(**stock)
        sites = find_sites(self)
        for name, width in (widths or {}).items():
            site = sites.get(name)
            if site is None or site.reads is None or site.writes is None or not 0 <= width <= site.units:
                raise ModelError(f"widths: came {name}: {width}; wanted 0 to {site.units if site else 0} neurons of a site the model has")
            _narrow(self, site.reads, site.writes, site.units - width)

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """The configuration without the guard, which is for those who do not have this class."""
        found = super().load_config(*args, **kwargs)
        (found[0] if isinstance(found, tuple) else found).pop("quantization_config", None)
        return found


SafeFluxTransformer2DModel.__module__ = CLASS[0]  # where a pipeline that is saved again says it is to be found


def _narrow(model: nn.Module, reads: str, writes: str, fewer: int) -> None:
    """Take ``fewer`` rows from one linear layer and as many columns from the one that consumes them; what is in them does not matter."""
    up, down = model.get_submodule(reads), model.get_submodule(writes)
    assert isinstance(up, nn.Linear)
    assert isinstance(down, nn.Linear)
    width = up.out_features - fewer
    _replace(model, reads, up, up.in_features, width)
    new = _replace(model, writes, down, down.in_features - fewer, down.out_features)
    if (blocks := getattr(down, "_tp_packed_row_blocks", None)) is not None:
        vars(new)["_tp_packed_row_blocks"] = [*blocks[:-1], width]
    block = model.get_submodule(reads.rpartition(".")[0])
    if hasattr(block, "mlp_hidden_dim"):
        vars(block)["mlp_hidden_dim"] = width


def _replace(model: nn.Module, path: str, old: nn.Linear, reads: int, writes: int) -> nn.Linear:
    parent, _, name = path.rpartition(".")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # a width of 0 is as good as any
        new = nn.Linear(reads, writes, bias=old.bias is not None, device=old.weight.device, dtype=old.weight.dtype)
    model.get_submodule(parent).register_module(name, new)
    return new


def transformer_class(directory: Path) -> type[Any]:
    """What a ``transformer/`` directory is to be loaded with: the stock class, unless neurons were cut out of it."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    found: type[Any] = SafeFluxTransformer2DModel if config.get("_class_name") == CLASS[1] else FluxTransformer2DModel
    return found
