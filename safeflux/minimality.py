"""How much of a model two sets of weights differ in: what an edit took, whoever made it."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from safeflux.edits import empty_transformer, weights
from safeflux.models.declared import find_sites
from safeflux.models.tensors import Readers, stored


@torch.no_grad()
def difference(base: Path, edited: Readers) -> dict[str, int | float]:
    """The tensors that ``edited`` reads against the ``transformer/`` directory ``base``, one of each in memory at a time.

    ``parameters`` of the base; how many of them are ``changed``, and how many of these ``zeroed``, and how many of those ``scattered``:
    single ones of a matrix, of which neither the whole row nor the whole column is zero; ``relative_change``: Frobenius norm of the
    difference over that of the base, in float64. A tensor that is missing or has another shape counts as changed throughout.
    """
    before, after = weights(base), edited
    parameters = changed = zeroed = scattered = 0
    moved = whole = 0.0
    for name, read in before.items():
        one = read().double()
        two = after[name]().double() if name in after else None
        parameters += one.numel()
        whole += float(one.square().sum())
        if two is None or two.shape != one.shape:
            changed += one.numel()
            moved += float(one.square().sum())
            continue
        changed += int((one != two).sum())
        lost = (one != 0) & (two == 0)
        zeroed += int(lost.sum())
        if two.dim() == 2:
            scattered += int((lost & two.any(1, keepdim=True) & two.any(0, keepdim=True)).sum())
        moved += float((one - two).square().sum())
    relative = math.sqrt(moved / whole) if whole else 0.0
    return {"parameters": parameters, "changed": changed, "zeroed": zeroed, "scattered": scattered, "relative_change": relative}


def cut_out(base: Path, edited: Path) -> dict[str, dict[str, int]]:
    """Neurons of the ``transformer/`` directory ``base`` that have no place in ``edited``: "removed" and the base's "units", by site.

    Told from the widths of layers alone, whoever made them narrower; sites that lost none are left out.
    """
    before, after, found = stored(base), stored(edited), {}
    for name, site in find_sites(empty_transformer(base)).items():
        if site.kind != "neuron" or f"{site.reads}.weight" not in after or f"{site.writes}.weight" not in after:
            continue
        rows, columns = (
            before[weight].shape[dim] - after[weight].shape[dim]
            for weight, dim in ((f"{site.reads}.weight", 0), (f"{site.writes}.weight", 1))
        )
        if rows == columns > 0:
            found[name] = {"removed": rows, "units": site.units}
    return found
