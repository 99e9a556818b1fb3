"""Which neuron is which: those of a baked model found again in its base, wherever they stand."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import replace

import torch
from torch import Tensor

from safeflux.errors import ModelError
from safeflux.layouts import EMPTY
from safeflux.models.sites import Site
from safeflux.models.tensors import Readers


def match(site: Site, before: Readers, after: Readers) -> Tensor:
    """The base's unit in each slot of ``after`` [width], or ``EMPTY``: a neuron is the same if all its numbers are, in and out.

    Raises ``ModelError`` where ``after`` has no such site, or one that is wider than the base's.
    """
    mine = [hashlib.blake2b(one, digest_size=16).digest() for one in _bytes(_neurons(site, site.units, before))]
    width = _width(site, before, after)
    waiting = defaultdict(list)
    for unit, digest in reversed(list(enumerate(mine))):
        waiting[digest].append(unit)
    slot = torch.full((width,), EMPTY)
    for place, one in enumerate(_bytes(_neurons(site, width, after))):
        units = waiting.get(hashlib.blake2b(one, digest_size=16).digest())
        if units:
            slot[place] = units.pop()
    return slot


def without_effect(site: Site, slot: Tensor, after: Readers) -> bool:
    """Whether the neurons in empty slots do nothing together: those that read the same write what adds up to exactly nothing."""
    empty = (slot == EMPTY).nonzero().flatten()
    up, bias, down = _parts(site, len(slot), after)
    owners: dict[bytes, list[int]] = defaultdict(list)
    for place, one in zip(empty.tolist(), _bytes(torch.cat([up, bias], 1)[empty]), strict=True):
        owners[one].append(place)
    return not any(down[group].double().sum(0).any() for group in owners.values())


def _width(site: Site, before: Readers, after: Readers) -> int:
    name = f"{site.reads}.weight"
    if name not in after:
        raise ModelError(f"{name} is missing; wanted the weights of a model that was made from this base")
    lost, uneven = divmod(before[name]().shape[0] - after[name]().shape[0], site.halves)
    if uneven or not 0 <= lost <= site.units:
        came = f"{name} has {site.units - lost} neurons, its base's {site.units}"
        raise ModelError(f"{came}; wanted the weights of a model that was made from this base")
    return site.units - lost


def _parts(site: Site, width: int, weights: Readers) -> tuple[Tensor, Tensor, Tensor]:
    """Input rows [width, all that a neuron reads by], biases [width, as many as it has], output columns turned into rows [width, out]."""
    down = weights[f"{site.writes}.weight"]()[:, site.column : site.column + width].T
    ups, biases = [], [down.new_empty(width, 0)]
    for name in site.inputs:
        tensor = weights[name]()
        parts = [tensor[row : row + width] for row in replace(site, units=width).rows]
        if any(len(part) != width for part in (*parts, down)):
            raise ModelError(
                f"{site.name} has {len(tensor)} rows in {name} and {len(down)} output columns; wanted those of {width} neurons"
            )
        if tensor.dim() == 2:
            ups += parts
        else:
            biases += [part[:, None] for part in parts]
    return torch.cat(ups, 1), torch.cat(biases, 1), down


def _neurons(site: Site, width: int, weights: Readers) -> Tensor:
    return torch.cat(_parts(site, width, weights), 1)


def _bytes(rows: Tensor) -> list[bytes]:
    return [row.tobytes() for row in rows.contiguous().view(torch.uint8).numpy()]
