"""Transformers of which single neurons were cut out, so that their feed-forward layers are of different widths.

Stock diffusers has one width for all of them. With ``import safeflux``, ``from_pretrained`` of the model's pipeline finds these classes
under the name that the release's ``model_index.json`` gives, and no code of the release is run.
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
from diffusers.configuration_utils import register_to_config
from torch import nn

from safeflux.errors import ModelError
from safeflux.families import family_of
from safeflux.models.declared import find_sites, unknown
from safeflux.models.sites import Site

PACKAGE = "safeflux"  # where model_index.json says that the classes are
# The one thing in a configuration that makes every stock loader stop. Without it, one that is told to ignore sizes that do not fit
# fills what it cannot read with whatever lies in memory, and goes on.
GUARD = {"quant_method": "none, but neurons that were cut out: pip install safeflux, import safeflux, then load it with its pipeline"}


class Narrowed:
    """Put before a transformer class of diffusers, it adds the setting ``widths``: neurons by site, where they are not the usual ones.

    Everything else is the stock class's: number formats, shards, device maps, gradient checkpointing, LoRA, compiling (block by block,
    a graph for each width). All settings are given by name. Raises ``ModelError`` for widths that the model cannot have.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if Narrowed in cls.__bases__:
            own: Any = cls
            own.__init__ = register_to_config(_constructor(cls.__bases__[1]))
            cls.__module__ = PACKAGE  # where a pipeline that is saved again says it is to be found

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """The configuration without the guard, which is for those who do not have this class."""
        found = super().load_config(*args, **kwargs)  # type: ignore[misc]
        (found[0] if isinstance(found, tuple) else found).pop("quantization_config", None)
        return found


def _constructor(stock: Any) -> Any:
    """``stock``'s, with two settings more. Its signature names them all: from there diffusers has what a configuration may hold."""

    def make(
        self: Any, *, widths: Mapping[str, int] | None = None, quantization_config: Mapping[str, str] = GUARD, **settings: Any
    ) -> None:
        stock.__init__(self, **settings)
        sites = find_sites(self)
        for name, width in (widths or {}).items():
            site = sites.get(name)
            if site is None or site.kind != "neuron" or not 0 <= width <= site.units:
                raise ModelError(f"widths: came {name}: {width}; wanted 0 to {site.units if site else 0} neurons of a site the model has")
            _narrow(self, site, width)

    usual, added = inspect.signature(stock.__init__), list(inspect.signature(make).parameters.values())[1:3]
    signed: Any = make
    signed.__signature__ = usual.replace(parameters=[*usual.parameters.values(), *added])
    return signed


class SafeFluxTransformer2DModel(Narrowed, diffusers.FluxTransformer2DModel):  # type: ignore[misc]
    """A FLUX.1 with ``widths``: ``{"transformer_blocks.0.ff": 12000, ...}``."""


class SafeFlux2Transformer2DModel(Narrowed, diffusers.Flux2Transformer2DModel):  # type: ignore[misc]
    """A FLUX.2 with ``widths``."""


class SafeFluxSD3Transformer2DModel(Narrowed, diffusers.SD3Transformer2DModel):  # type: ignore[misc]
    """A Stable Diffusion 3 or 3.5 with ``widths``."""


class SafeFluxQwenImageTransformer2DModel(Narrowed, diffusers.QwenImageTransformer2DModel):  # type: ignore[misc]
    """A Qwen-Image with ``widths``."""


class SafeFluxZImageTransformer2DModel(Narrowed, diffusers.ZImageTransformer2DModel):  # type: ignore[misc]
    """A Z-Image with ``widths``."""


class SafeFluxChromaTransformer2DModel(Narrowed, diffusers.ChromaTransformer2DModel):  # type: ignore[misc]
    """A Chroma with ``widths``."""


def _narrow(model: nn.Module, site: Site, width: int) -> None:
    """Leave ``width`` neurons of a site: rows of what it reads by, columns of what reads it; what is in them does not matter."""
    assert site.reads is not None
    assert site.writes is not None
    fewer = site.units - width
    for path in (site.reads, *site.also):
        up = _linear(model, path)
        new = _replace(model, path, up, up.in_features, up.out_features - site.halves * fewer)
        if (blocks := getattr(up, "_tp_packed_col_blocks", None)) is not None:
            vars(new)["_tp_packed_col_blocks"] = [*blocks[: -site.halves], *[width] * site.halves]
    down = _linear(model, site.writes)
    new = _replace(model, site.writes, down, down.in_features - fewer, down.out_features)
    if (blocks := getattr(down, "_tp_packed_row_blocks", None)) is not None:
        vars(new)["_tp_packed_row_blocks"] = [*blocks[:-1], width]
    block = model.get_submodule(site.reads.rpartition(".")[0])
    if hasattr(block, "mlp_hidden_dim"):
        vars(block)["mlp_hidden_dim"] = width


def _linear(model: nn.Module, path: str) -> nn.Linear:
    found = model.get_submodule(path)
    assert isinstance(found, nn.Linear)
    return found


def _replace(model: nn.Module, path: str, old: nn.Linear, reads: int, writes: int) -> nn.Linear:
    parent, _, name = path.rpartition(".")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # a width of 0 is as good as any
        new = nn.Linear(reads, writes, bias=old.bias is not None, device=old.weight.device, dtype=old.weight.dtype)
    model.get_submodule(parent).register_module(name, new)
    return new


def transformer_class(directory: Path) -> type[Any]:
    """What a ``transformer/`` directory is to be loaded with: the stock class, unless neurons were cut out of it.

    Raises ``ModelError`` where it is of no family that is declared.
    """
    path = directory / "config.json"
    name = json.loads(path.read_text(encoding="utf-8")).get("_class_name")
    family = family_of(name)
    if family is None:
        raise ModelError(f"{path}: {unknown(name)}")
    found: type[Any] = globals()[name] if name == family.removed else getattr(diffusers, name)
    return found
