"""Adapters made for the base, cut to fit a release from which neurons were removed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from safeflux.edits import empty_transformer
from safeflux.errors import ModelError
from safeflux.families.flux1 import FLUX1
from safeflux.layouts import EMPTY
from safeflux.models.declared import family, find_sites
from safeflux.types import KEPT

_ROWS = ("lora_B.weight", "lora_B.bias", "lora_magnitude_vector")  # of a layer's numbers, one each; the other factor reads its input
_COLUMNS = "lora_A.weight"


def slice_lora(lora: Path | str | Mapping[str, Tensor], directory: Path | str) -> dict[str, Tensor]:
    """``lora``, made for the base, for the release in ``directory``: ``pipeline.load_lora_weights(slice_lora(...))``.

    ``lora`` is a safetensors file in any form that diffusers reads (its own, kohya's, BFL's), or the tensors of one. What it says of
    attention stays; of feed-forward layers it keeps what is for neurons that are still there, in the order in which they stand. What it
    would add to erased ones is gone, so it may do less than it did to the base.

    Raises ``ModelError`` where the release does not say which neurons it kept, or ``lora`` is not for its base.
    """
    from diffusers import FluxPipeline

    kept = _kept(Path(directory))
    transformer = empty_transformer(Path(directory) / "transformer")
    if (kind := family(transformer)) is not FLUX1:
        raise ModelError(f"{directory} holds a model of {kind.name}; adapters are cut to fit for {FLUX1.name} only")
    given = dict(lora) if isinstance(lora, Mapping) else str(lora)
    try:
        state, alphas = FluxPipeline.lora_state_dict(given, return_alphas=True, use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{lora if isinstance(given, str) else 'the adapter'} is no LoRA for FLUX that can be read: {error}") from error
    sites = find_sites(transformer)
    found: dict[str, Tensor] = {**state, **{name: torch.as_tensor(alpha) for name, alpha in (alphas or {}).items()}}
    for site, slot in ((sites[name], kept[name]) for name in kept):
        for part in _ROWS:
            _cut(found, f"transformer.{site.reads}.{part}", slot, site.row, 0)
        _cut(found, f"transformer.{site.writes}.{_COLUMNS}", slot, site.column, 1)
    return found


def _kept(directory: Path) -> dict[str, Tensor]:
    path = directory / KEPT
    if not path.is_file():
        raise ModelError(
            f"{directory} holds no {KEPT}: its publisher does not say which neurons were kept, as where the base is not public, or none "
            "were moved. An adapter for attention alone loads as it is; one for feed-forward layers has to be trained on the release"
        )
    try:
        return {name: slot.long() for name, slot in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read: {error}; wanted the file as it was released") from error


def _cut(found: dict[str, Tensor], name: str, slot: Tensor, start: int, dim: int) -> None:
    """Take what lies ``start`` and further along ``dim`` of a tensor into the order of ``slot``; zeros for slots that are empty."""
    if name not in found:
        return
    old = found[name]
    if old.shape[dim] <= start + max([-1, *slot.tolist()]):
        raise ModelError(f"{name} has {old.shape[dim]} numbers; the release's base has more neurons: the adapter is for another model")
    new = old.index_select(dim, start + slot.clamp(min=0))
    new.index_fill_(dim, (slot == EMPTY).nonzero().flatten(), 0)
    found[name] = torch.cat([old.narrow(dim, 0, start), new], dim)
