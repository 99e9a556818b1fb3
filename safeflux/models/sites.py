"""Where a transformer can be cut: units, where to gate them, and which weights carry them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

Kind = Literal["neuron", "modulation", "head"]
KINDS: tuple[Kind, ...] = ("neuron", "modulation", "head")


@dataclass(frozen=True)
class Site:
    """A row of units that one gate vector covers.

    ``gate``: the module whose output (for heads: whose input) is multiplied, from ``offset`` on, ``width`` numbers a unit.
    ``reads``: the linear layer whose rows and bias make the units (None for heads, whose values serve two streams).
    ``writes``: the linear layer whose columns, from ``column`` on, consume them (None for modulation outputs).
    """

    name: str
    kind: Kind
    units: int
    gate: str
    reads: str | None
    writes: str | None
    column: int = 0
    width: int = 1


@contextmanager
def gated(transformer: nn.Module, sites: Mapping[str, Site], gates: Mapping[str, Tensor]) -> Iterator[None]:
    """Multiply the units of each site named in ``gates`` by its gate vector [units] while the context lasts.

    The same tensors are used in every forward pass, recomputation included, so a rollout has one sample of its gates.
    """
    handles = []
    try:
        for name, gate in gates.items():
            site = sites[name]
            module = transformer.get_submodule(site.gate)
            if site.kind == "head":
                handles.append(module.register_forward_pre_hook(_scale_input(site, gate)))
            else:
                handles.append(module.register_forward_hook(lambda _m, _i, out, gate=gate: out * gate.to(out.dtype)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _scale_input(site: Site, gate: Tensor):  # type: ignore[no-untyped-def]
    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = inputs[0]
        scale = gate.to(x.dtype).repeat_interleave(site.width)
        if scale.numel() < x.shape[-1]:  # single blocks: attention columns come first, the MLP's follow untouched
            scale = nn.functional.pad(scale, (0, x.shape[-1] - scale.numel()), value=1.0)
        return (x * scale, *inputs[1:])

    return hook
