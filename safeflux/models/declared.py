"""Where a transformer can be cut: its sites, found by what its family declares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from safeflux.errors import ModelError
from safeflux.families import FAMILIES, family_of
from safeflux.families.parts import Family, Heads, Modulation, Neurons, Part
from safeflux.models.sites import Site


def family(transformer: nn.Module) -> Family:
    """The family of a transformer. Raises ``ModelError`` for one of a class that none declares."""
    found = next((one for kind in type(transformer).__mro__ if (one := family_of(kind.__name__))), None)
    if found is None:
        raise ModelError(unknown(type(transformer).__name__))
    return found


def unknown(name: object) -> str:
    """What to say of a transformer class that no family declares."""
    known = ", ".join(f"{one.transformer} ({one.name})" for one in FAMILIES)
    return f"the transformer is of class {name!r}; wanted one of {known}"


def find_sites(transformer: nn.Module) -> dict[str, Site]:
    """Every site of the transformer by name, in forward order: neurons, modulation outputs chunk by chunk, attention heads.

    Raises ``ModelError`` where it is of no known family, or is not built as its family declares.
    """
    declared = family(transformer)
    dim: int = getattr(transformer, declared.width)
    found: list[Site] = []
    for blocks in declared.blocks:
        if not blocks.at:
            owners = [("", transformer)]
        else:
            listed = _module(transformer, blocks.at, blocks.some)
            owners = [] if listed is None else [(f"{blocks.at}.{n}.", block) for n, block in listed.named_children()]
        for at, block in owners:
            for part in blocks.parts:
                found += _sites(at, block, part, dim, shared=not blocks.at)
    return {site.name: site for site in found}


def _sites(at: str, block: nn.Module, part: Part, dim: int, *, shared: bool) -> Iterator[Site]:
    """The sites of one ``part`` of a ``block`` whose modules' paths begin with ``at``; ``shared``: all blocks hear of it."""
    match part:
        case Neurons():
            if (site := _neurons(at, block, part, dim)) is not None:
                yield site
        case Heads():
            writes = _module(block, part.writes, part.some)
            if writes is not None:
                heads: int = _known(block, part.attention).heads
                path = at + part.writes
                yield Site(at + part.site, "head", part.site, heads, path, None, path, width=dim // heads)
        case Modulation():
            linear = _known(block, part.linear)
            chunks = next((names for names in part.chunks if len(names) * dim == linear.out_features), None)
            if chunks is None:
                wanted = " or ".join(str(len(names)) for names in part.chunks)
                raise ModelError(f"{at}{part.linear} puts out {linear.out_features} numbers; wanted {wanted} times {dim}")
            for i, chunk in enumerate(chunks):
                name = f"{part.site}.{chunk}"
                path, biased = at + part.linear, linear.bias is not None
                yield Site(at + name, "modulation", name, dim, path, path, None, row=i * dim, biased=biased, shared=shared)


def _neurons(at: str, block: nn.Module, part: Neurons, dim: int) -> Site | None:
    first = _module(block, part.reads[0], part.some)
    if first is None:
        return None
    row, column = part.row * dim, part.column * dim
    units, left = divmod(first.out_features - row, part.halves)
    reads = [_known(block, path) for path in part.reads]
    if left or any(one.out_features != first.out_features for one in reads) or _known(block, part.writes).in_features != column + units:
        raise ModelError(f"{at}{part.site} is not as wide at its entry as at its exit; wanted a transformer as diffusers builds it")
    _known(block, part.gate)
    return Site(
        at + part.site, "neuron", part.group or part.site, units, at + part.gate, at + part.reads[0], at + part.writes, column, row=row,
        halves=part.halves, also=tuple(at + path for path in part.reads[1:]), biased=first.bias is not None,
    )  # fmt: skip


def _module(block: nn.Module, path: str, some: bool) -> Any:
    """The module at ``path``, or None where there is none and ``some`` says that this may be."""
    found: Any = block
    for name in path.split("."):
        found = getattr(found, name, None)
    if found is None and not some:
        raise ModelError(f"{type(block).__name__} has no {path}; wanted a transformer as diffusers builds it")
    return found


def _known(block: nn.Module, path: str) -> Any:
    return _module(block, path, some=False)
