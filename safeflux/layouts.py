"""How a mask stands in the weights: what lies in which slot of a feed-forward layer.

``dense`` leaves zeros in place: a stock FLUX, of which an erased neuron has lost its input row, its bias and its output column. Its
places can be seen, and do not help to fill them (``docs/revival.md``); its neurons are not moved, so that its latents are the masked
model's, bit by bit, and adapters made for the base still fit. With ``decoys`` the slots hold neurons that look like the others and
have no effect together. ``removed`` cuts the slots out. In these two the neurons that stay at a pruned site stand in a random order,
so that their places do not tell which ones are missing. Modulation outputs and attention heads are zeros in every layout.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from safeflux.models.sites import Site
from safeflux.types import Masks

Change = Callable[[Tensor], Tensor]
EMPTY = -1  # a slot without a neuron of the base
_EFFECTS = {0: (), 1: (0.0,), 2: (1.0, -1.0), 3: (1.0, 1.0, -2.0)}  # decoys with one input row: what they do adds up to nothing


@dataclass(frozen=True)
class Layout:
    """``decoys``: of ``dense`` only. ``multiple``: of ``removed`` only; widths are rounded up to it, with neurons that are zero.

    ``secret``: what the random order and the decoys are drawn from. Whoever knows it knows both.
    """

    kind: Literal["dense", "removed"] = "dense"
    decoys: bool = False
    multiple: int = 1
    secret: bytes = b""

    @property
    def ordered(self) -> bool:
        """Whether neurons stay where they were."""
        return self.kind == "dense" and not self.decoys


DENSE = Layout()


def slots(mask: Masks, sites: Mapping[str, Site], layout: Layout) -> dict[str, Tensor]:
    """For each site of neurons that loses some: the base's unit in each slot [width], or ``EMPTY``."""
    found = {}
    for name, keep in mask.keep.items():
        if sites[name].kind != "neuron" or bool(keep.all()):
            continue
        stay = keep.bool().nonzero().flatten()
        if layout.ordered:
            found[name] = torch.where(keep.bool(), torch.arange(len(keep)), EMPTY)
            continue
        width = len(keep) if layout.kind == "dense" else min(len(keep), -(-len(stay) // layout.multiple) * layout.multiple)
        filled = torch.cat([stay, stay.new_full((width - len(stay),), EMPTY)])
        found[name] = filled[_numbers(layout.secret, name, width).argsort()]
    return found


def moves(site: Site, slot: Tensor, layout: Layout) -> dict[str, Change]:
    """What happens to the tensors of one site whose neurons are to lie in ``slot`` [width]."""
    secret = layout.secret if layout.decoys else None

    def rows(t: Tensor) -> Tensor:
        for row in reversed(site.rows):  # the last half first: where another one begins does not change with it
            t = _moved(t, slot, row, site.units, 0, secret, site.name)
        return t

    def columns(t: Tensor) -> Tensor:
        return _moved(t, slot, site.column, site.units, 1, secret, site.name)

    return {**dict.fromkeys(site.inputs, rows), f"{site.writes}.weight": columns}


def _moved(t: Tensor, slot: Tensor, start: int, units: int, dim: int, secret: bytes | None, name: str) -> Tensor:
    """``t`` whose slices from ``start`` on, along ``dim``, lie as ``slot`` says; empty slots are zero, or decoys drawn from ``secret``."""
    end = start + units
    before, old, after = t.narrow(dim, 0, start), t.narrow(dim, start, units), t.narrow(dim, end, t.shape[dim] - end)
    new = old.new_zeros([len(slot) if d == dim else size for d, size in enumerate(old.shape)])
    there, empty = (slot != EMPTY).nonzero().flatten(), (slot == EMPTY).nonzero().flatten()
    new.index_copy_(dim, there, old.index_select(dim, slot[there]))
    if secret is not None and len(empty) and len(there):
        new.index_copy_(dim, empty, _decoys(new.index_select(dim, there), len(empty), dim, secret, name))
    return torch.cat([before, new, after], dim)


def _decoys(neighbours: Tensor, n: int, dim: int, secret: bytes, name: str) -> Tensor:
    """``n`` slices along ``dim`` like ``neighbours``: each number is that of some neighbour in the same place.

    Rows (``dim`` 0) are the same for the two or three decoys that belong together; columns add up to exactly zero over them.
    """
    groups = [2] * (n // 2 - 1) + [3] if n % 2 and n > 1 else [2] * (n // 2) + [1] * (n % 2)
    owner = torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(groups))
    flat = neighbours.movedim(dim, 0).reshape(neighbours.shape[dim], -1)
    pick = _numbers(secret, f"{name} {dim} {flat.shape[1]}", len(groups) * flat.shape[1]).view(len(groups), -1) % len(flat)
    drawn = flat.gather(0, pick)[owner]
    if dim == 1:
        drawn = drawn * torch.tensor([e for size in groups for e in _EFFECTS[size]], dtype=drawn.dtype)[:, None]
    return drawn.reshape(n, *neighbours.movedim(dim, 0).shape[1:]).movedim(0, dim)


def _numbers(secret: bytes, what: str, n: int) -> Tensor:
    """``n`` whole numbers of 63 bits, of their own for everything drawn: of the 32 bits that seed a generator of torch all can be tried."""
    if n == 0:
        return torch.empty(0, dtype=torch.int64)
    drawn = torch.frombuffer(bytearray(hashlib.shake_256(secret + what.encode()).digest(8 * n)), dtype=torch.int64)
    return drawn & (2**63 - 1)
