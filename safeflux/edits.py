"""Edits: what each does to the weights, their files, and masks read back from weights that were baked with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import assert_never

import torch
from accelerate import init_empty_weights
from diffusers import FluxTransformer2DModel
from safetensors import safe_open
from torch import Tensor

from safeflux.errors import ModelError
from safeflux.models.flux1_sites import find_sites
from safeflux.models.sites import Site
from safeflux.models.tensors import save_tensors, stored
from safeflux.types import Edit, LowRank, Masks, Weights

Change = Callable[[Tensor], Tensor]


def empty_transformer(directory: Path) -> FluxTransformer2DModel:
    """The transformer of a ``transformer/`` directory without its weights, on the meta device."""
    config = FluxTransformer2DModel.load_config(directory)
    with init_empty_weights():
        return FluxTransformer2DModel.from_config(config)


def changes(edit: Edit, transformer_dir: Path) -> dict[str, Change]:
    """What happens to each tensor of the state dict that the edit touches."""
    match edit:
        case Masks():
            return _mask_changes(edit, find_sites(empty_transformer(transformer_dir)))
        case LowRank():
            return {f"{path}.weight": _added(down, up) for path, (down, up) in edit.factors.items()}
        case Weights():
            return {name: _replaced(name, value) for name, value in edit.tensors.items()}
        case _:
            assert_never(edit)


def _mask_changes(edit: Masks, sites: Mapping[str, Site]) -> dict[str, Change]:
    found: dict[str, list[Change]] = {}
    for name, keep in edit.keep.items():
        site = sites.get(name)
        if site is None or site.units != len(keep):
            raise ModelError(f"the mask has {len(keep)} units at {name}; the model {site.units if site else 'no such site'}")
        gone = (~keep.bool()).nonzero().flatten()
        if site.reads:
            found.setdefault(f"{site.reads}.weight", []).append(_zeroed(site.row + gone, 0))
            found.setdefault(f"{site.reads}.bias", []).append(_zeroed(site.row + gone, 0))
        if site.writes:
            columns = (site.column + gone[:, None] * site.width + torch.arange(site.width)).flatten()
            found.setdefault(f"{site.writes}.weight", []).append(_zeroed(columns, 1))
    return {name: _all(parts) for name, parts in found.items()}


def _zeroed(index: Tensor, dim: int) -> Change:
    return lambda t: t.clone().index_fill_(dim, index, 0)


def _all(parts: list[Change]) -> Change:
    def change(t: Tensor) -> Tensor:
        for part in parts:
            t = part(t)
        return t

    return change


def _added(down: Tensor, up: Tensor) -> Change:
    return lambda t: (t.float() + up.float() @ down.float()).to(t.dtype)


def _replaced(name: str, value: Tensor) -> Change:
    def change(t: Tensor) -> Tensor:
        if t.shape != value.shape:
            raise ModelError(f"{name}: the edit has shape {tuple(value.shape)}, the weights {tuple(t.shape)}")
        return value.to(t.dtype)

    return change


def save_edit(edit: Edit, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """One safetensors file; ``metadata`` must be text."""
    match edit:
        case Masks():
            tensors = {name: keep.bool() for name, keep in edit.keep.items()}
        case LowRank():
            tensors = {f"{n}.{part}": t for n, (d, u) in edit.factors.items() for part, t in (("down", d), ("up", u))}
        case Weights():
            tensors = dict(edit.tensors)
        case _:
            assert_never(edit)
    save_tensors(tensors, path, {**(metadata or {}), "edit": type(edit).__name__})


def load_edit(path: Path) -> Edit:
    """Read what ``save_edit`` wrote. Raises ``ModelError`` for anything else."""
    try:
        with safe_open(path, "pt") as file:
            kind = (file.metadata() or {}).get("edit")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise ModelError(f"{path}: not a safetensors file: {error}") from error
    match kind:
        case "Masks":
            return Masks(tensors)
        case "LowRank":
            paths = {name.rsplit(".", 1)[0] for name in tensors}
            return LowRank({p: (tensors[f"{p}.down"], tensors[f"{p}.up"]) for p in sorted(paths)})
        case "Weights":
            return Weights(tensors)
    raise ModelError(f"{path}: its metadata names the edit {kind!r}; wanted Masks, LowRank or Weights")


def erased(edit: Edit) -> dict[str, dict[str, int]]:
    """Units removed and units there were, by site, for the report; empty for edits that remove none."""
    if not isinstance(edit, Masks):
        return {}
    return {name: {"removed": int((~keep.bool()).sum()), "units": len(keep)} for name, keep in edit.keep.items()}


def read_mask(base: Path, baked: Path) -> Masks:
    """The mask that was baked into the ``transformer/`` directory ``baked``, told from its base's: what is zero only there was erased.

    Raises ``ModelError`` unless baking this mask into ``base`` gives the very weights of ``baked``.
    """
    before, after = weights(base), weights(baked)
    sites = find_sites(empty_transformer(base))
    mask = Masks({name: ~_gone(site, before, after) for name, site in sites.items()})
    todo = _mask_changes(mask, sites)
    for name, read in before.items():
        tensor = read()
        expected = todo[name](tensor) if name in todo else tensor
        if name not in after or not torch.equal(expected, after[name]()):
            raise ModelError(
                f"{baked}: {name} is not the base's under any mask; only a release of method mask, of this base, can be extended"
            )
    return Masks({name: keep for name, keep in mask.keep.items() if not keep.all()})


def extended(earlier: Masks, edit: Edit) -> Masks:
    """``edit`` with everything closed that ``earlier`` closes. Raises ``ModelError`` unless it is a mask too."""
    if not isinstance(edit, Masks):
        raise ModelError(f"the method made an edit of kind {type(edit).__name__}; an earlier release can only be extended by a mask")
    return product([edit, earlier])


def product(masks: Sequence[Masks]) -> Masks:
    """Masks that were made apart as one, as the paper merges them: a unit is kept where every mask keeps it."""
    keep: dict[str, Tensor] = {}
    for mask in masks:
        keep |= {name: gate.bool().cpu() & keep.get(name, torch.tensor(True)) for name, gate in mask.keep.items()}
    return Masks(keep)


def weights(directory: Path) -> dict[str, Callable[[], Tensor]]:
    """How to read each tensor of a ``transformer/`` directory, one at a time."""
    return {name: one.read for name, one in stored(directory).items()}


def _gone(site: Site, before: Mapping[str, Callable[[], Tensor]], after: Mapping[str, Callable[[], Tensor]]) -> Tensor:
    """Which units of a site have nothing left of what they had: bool [units]."""
    numbers = site.units * site.width

    def silent(weights: Mapping[str, Callable[[], Tensor]]) -> Tensor:
        zero = torch.ones(site.units, dtype=torch.bool)
        if site.reads:
            rows = slice(site.row, site.row + site.units)
            zero &= ~weights[f"{site.reads}.weight"]()[rows].any(dim=1) & (weights[f"{site.reads}.bias"]()[rows] == 0)
        if site.writes:
            columns = weights[f"{site.writes}.weight"]()[:, site.column : site.column + numbers]
            zero &= ~columns.reshape(-1, site.units, site.width).any(dim=2).any(dim=0)
        return zero

    return silent(after) & ~silent(before)
