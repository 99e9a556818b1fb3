"""Edits: what each does to the weights, their files, and masks read back from weights that were baked with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import assert_never

import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from torch import Tensor, nn

from safeflux import layouts
from safeflux.errors import ModelError
from safeflux.layouts import DENSE, EMPTY, Change, Layout
from safeflux.matching import match, without_effect
from safeflux.models.declared import find_sites
from safeflux.models.removed import transformer_class
from safeflux.models.sites import Site
from safeflux.models.tensors import Readers, save_tensors, stored
from safeflux.types import Edit, LowRank, Masks, Weights


def empty_transformer(directory: Path) -> nn.Module:
    """The transformer of a ``transformer/`` directory without its weights, on the meta device."""
    kind = transformer_class(directory)
    config = kind.load_config(directory)
    with init_empty_weights():
        found: nn.Module = kind.from_config(config)
    return found


def placed(edit: Edit, transformer_dir: Path, layout: Layout) -> dict[str, Tensor]:
    """What lies in which slot of the sites that lose neurons, see ``layouts.slots``; empty for an edit that takes none."""
    return layouts.slots(edit, _sites(edit, transformer_dir), layout) if isinstance(edit, Masks) else {}


def changes(edit: Edit, transformer_dir: Path, layout: Layout = DENSE) -> dict[str, Change]:
    """What happens to each tensor of the state dict that the edit touches."""
    match edit:
        case Masks():
            sites = _sites(edit, transformer_dir)
            return _mask_changes(edit, sites, layouts.slots(edit, sites, layout), layout)
        case LowRank():
            return {f"{path}.weight": _added(down, up) for path, (down, up) in edit.factors.items()}
        case Weights():
            return {name: _replaced(name, value) for name, value in edit.tensors.items()}
        case _:
            assert_never(edit)


def edited(edit: Edit, transformer_dir: Path) -> dict[str, Callable[[], Tensor]]:
    """How to read each tensor of a ``transformer/`` directory with the edit in force, every neuron where it was."""
    todo = changes(edit, transformer_dir)
    return {name: partial(_changed, todo.get(name, _same), read) for name, read in weights(transformer_dir).items()}


def _changed(change: Change, read: Callable[[], Tensor]) -> Tensor:
    return change(read())


def _sites(edit: Masks, transformer_dir: Path) -> dict[str, Site]:
    """The sites of the model, all of the mask's among them."""
    sites = find_sites(empty_transformer(transformer_dir))
    for name, keep in edit.keep.items():
        site = sites.get(name)
        if site is None or site.units != len(keep):
            raise ModelError(f"the mask has {len(keep)} units at {name}; the model {site.units if site else 'no such site'}")
    return sites


def _mask_changes(edit: Masks, sites: Mapping[str, Site], slots: Mapping[str, Tensor], layout: Layout) -> dict[str, Change]:
    found: dict[str, list[Change]] = {}
    for name, keep in edit.keep.items():
        site, gone = sites[name], (~keep.bool()).nonzero().flatten()
        if name in slots:
            for path, change in layouts.moves(site, slots[name], layout).items():
                found.setdefault(path, []).append(change)
        elif site.kind == "modulation" and len(gone):
            for path in site.inputs:
                found.setdefault(path, []).append(_zeroed(site.row + gone, 0))
        elif site.kind == "head" and len(gone):
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
    """The mask that was baked into the ``transformer/`` directory ``baked``, told from its base's weights, whatever its layout.

    Raises ``ModelError`` unless baking this mask into ``base`` gives the very weights of ``baked``, but for the order of neurons and
    for decoys, of which it makes sure that they have no effect.
    """
    before, after = weights(base), weights(baked)
    sites = find_sites(empty_transformer(base))
    slots = {name: match(site, before, after) for name, site in sites.items() if site.kind == "neuron"}
    keep = {name: ~_gone(site, before, after) for name, site in sites.items() if name not in slots}
    for name, slot in slots.items():
        keep[name] = torch.zeros(sites[name].units, dtype=torch.bool).index_fill_(0, slot[slot != EMPTY], True)
    mask = Masks({name: keep[name] for name in sites})
    moved = {name: slot for name, slot in slots.items() if not torch.equal(slot, torch.arange(sites[name].units))}
    todo = _mask_changes(mask, sites, moved, DENSE)
    bare = _without_decoys(sites, moved, after, baked)
    for name, read in before.items():
        tensor = read()
        expected = todo[name](tensor) if name in todo else tensor
        if name not in after or not torch.equal(expected, bare.get(name, _same)(after[name]())):
            raise ModelError(
                f"{baked}: {name} is not the base's under any mask; only a release of method mask, of this base, can be extended"
            )
    return Masks({name: kept for name, kept in mask.keep.items() if not kept.all()})


def _without_decoys(sites: Mapping[str, Site], slots: Mapping[str, Tensor], after: Readers, baked: Path) -> dict[str, Change]:
    """What takes the decoys out of the baked tensors, once it is sure that they do nothing."""
    found: dict[str, Change] = {}
    for name, slot in slots.items():
        if not without_effect(sites[name], slot, after):
            raise ModelError(f"{baked}: {name} holds neurons that are not the base's and change what it draws; it is no mask of this base")
        itself = torch.where(slot == EMPTY, EMPTY, torch.arange(len(slot)))
        found |= layouts.moves(replace(sites[name], units=len(slot)), itself, DENSE)
    return found


def unmoved(base: Path, edited_dir: Path) -> dict[str, Callable[[], Tensor]]:
    """How to read each tensor of a ``transformer/`` directory made from ``base``, its neurons back in their places if a mask made it."""
    before, after = weights(base), weights(edited_dir)
    if all(name in after and after[name]().shape == read().shape for name, read in before.items()):
        return after
    try:
        return edited(read_mask(base, edited_dir), base)
    except ModelError:
        return after


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


def _gone(site: Site, before: Readers, after: Readers) -> Tensor:
    """Which units of a site, of modulation outputs or heads, have nothing left of what they had: bool [units]."""

    def silent(weights: Readers) -> Tensor:
        if site.reads:
            rows = slice(site.row, site.row + site.units)
            parts = [weights[name]()[rows].reshape(site.units, -1) for name in site.inputs]
            return ~torch.cat(parts, dim=1).any(dim=1)
        columns = weights[f"{site.writes}.weight"]()[:, site.column : site.column + site.units * site.width]
        return ~columns.reshape(-1, site.units, site.width).any(dim=2).any(dim=0)

    return silent(after) & ~silent(before)


def _same(tensor: Tensor) -> Tensor:
    return tensor
