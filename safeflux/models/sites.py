"""Where a transformer can be cut: units, where to gate them, and which weights carry them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from safeflux.errors import OptionError

Kind = Literal["neuron", "modulation", "head"]
KINDS: tuple[Kind, ...] = ("neuron", "modulation", "head")


@dataclass(frozen=True)
class Site:
    """A row of units that one gate vector covers.

    ``group``: what the site is called in every block ("ff", "norm1.gate_mlp"), so that a choice can name it.
    ``gate``: the module whose output (for heads: whose input) is multiplied, from ``row`` on, ``width`` numbers a unit.
    ``reads``: the linear layer whose rows, from ``row`` on, and bias make the units (None for heads, whose values serve two streams).
    ``writes``: the linear layer whose columns, from ``column`` on, consume them (None for modulation outputs).
    A unit may have more rows than one, as in gated layers: ``halves`` of them in each layer, a row of all units for each; ``also``: the
    other layers that are read like ``reads``. ``biased``: whether these have biases. ``shared``: it acts in all blocks at once.
    """

    name: str
    kind: Kind
    group: str
    units: int
    gate: str
    reads: str | None
    writes: str | None
    column: int = 0
    width: int = 1
    row: int = 0
    halves: int = 1
    also: tuple[str, ...] = ()
    biased: bool = True
    shared: bool = False

    @property
    def start(self) -> int:
        """Where the units begin among the numbers of ``gate``: an activation puts out nothing else."""
        return self.row if self.gate == self.reads else 0

    @property
    def rows(self) -> tuple[int, ...]:
        """The first row of every half, in each layer that is read."""
        return tuple(self.row + half * self.units for half in range(self.halves))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tensors whose rows make the units: weights, and biases where there are any."""
        layers = () if self.reads is None else (self.reads, *self.also)
        return tuple(f"{layer}.{part}" for layer in layers for part in (("weight", "bias") if self.biased else ("weight",)))


def choose(sites: Mapping[str, Site], wanted: Sequence[str]) -> dict[str, Site]:
    """The sites that ``wanted`` names: kinds ("neuron"), groups ("ff"), or groups by their beginning ("norm1", "norm1.shift_mlp").

    Raises ``OptionError`` for a name that no site has, when there is none, and for a kind some of whose sites act in all blocks at once:
    these have to be named by their groups.
    """

    def named(word: str, site: Site) -> bool:
        return word in (site.kind, site.group) or site.group.startswith(f"{word}.")

    shared = list(dict.fromkeys(site.group.split(".")[0] for site in sites.values() if site.shared and site.kind in wanted))
    if shared:
        raise OptionError(
            f"sites: modulation; in this model one modulation acts in all blocks at once: name {', '.join(shared)} to mask it all the same"
        )

    unknown = [word for word in wanted if not any(named(word, site) for site in sites.values())]
    if unknown or not wanted:
        groups = ", ".join(dict.fromkeys(site.group for site in sites.values()))
        raise OptionError(f"sites: {', '.join(unknown) or 'nothing'}; wanted some of {', '.join(KINDS)}, or of {groups}")
    return {name: site for name, site in sites.items() if any(named(word, site) for word in wanted)}


@contextmanager
def gated(
    transformer: nn.Module, sites: Mapping[str, Site], gates: Mapping[str, Tensor] | Callable[[], Mapping[str, Tensor]]
) -> Iterator[None]:
    """Multiply the units of each site named in ``gates`` by its gates while the context lasts: [units], or [B, units] for a batch of B.

    The same tensors are used in every forward pass, recomputation included, so a rollout has one sample of its gates.
    A function in place of the tensors is called at the start of every forward pass instead, and gives the gates of all ``sites``.
    """
    by_module: dict[str, list[Site]] = {}
    for name in gates if isinstance(gates, Mapping) else sites:
        by_module.setdefault(sites[name].gate, []).append(sites[name])
    scales: dict[str, Tensor] = {}

    def put(drawn: Mapping[str, Tensor]) -> None:
        scales.update({path: _row((site, drawn[site.name]) for site in parts) for path, parts in by_module.items()})

    handles = []
    try:
        if isinstance(gates, Mapping):
            put(gates)
        else:
            handles.append(transformer.register_forward_pre_hook(lambda _m, _i: put(gates())))
        for path, parts in by_module.items():
            module = transformer.get_submodule(path)
            if parts[0].kind == "head":
                handles.append(module.register_forward_pre_hook(lambda _m, inputs, p=path: (_scaled(inputs[0], scales[p]), *inputs[1:])))
            else:
                handles.append(module.register_forward_hook(lambda _m, _i, out, p=path: _scaled(out, scales[p])))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _row(parts: Iterable[tuple[Site, Tensor]]) -> Tensor:
    """The gates of one module in the order of its numbers, from the first on: [m] or [B, m]; 1 where no site is."""
    pieces: list[Tensor] = []
    end = 0
    for site, gate in sorted(parts, key=lambda part: part[0].start):
        if site.start > end:
            pieces.append(gate.new_ones(*gate.shape[:-1], site.start - end))
        pieces.append(gate.repeat_interleave(site.width, dim=-1) if site.width > 1 else gate)
        end = site.start + site.units * site.width
    return torch.cat(pieces, dim=-1) if len(pieces) > 1 else pieces[0]


def _scaled(x: Tensor, scale: Tensor) -> Tensor:
    """``x`` [B, ..., n] times ``scale`` [m] or [B, m], m up to n: what follows stays. In single blocks the MLP follows the attention."""
    if scale.shape[-1] < x.shape[-1]:
        scale = nn.functional.pad(scale, (0, x.shape[-1] - scale.shape[-1]), value=1.0)
    if scale.dim() == 2:
        scale = scale.view(len(scale), *(1 for _ in x.shape[2:]), -1)
    return x * scale.to(x.dtype)
