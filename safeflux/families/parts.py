"""The words in which a family is declared. Paths are those of diffusers' modules, below the block that has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scope = Literal["per block", "shared", "none"]

PIPELINE = "FluxPipeline"  # the one pipeline whose directories SafeFlux feeds and samples

# Modulation outputs in the order in which diffusers chunks them, by what they do to which half of a block.
SIX = ("shift_msa", "scale_msa", "gate_msa", "shift_mlp", "scale_mlp", "gate_mlp")
THREE = SIX[:3]


@dataclass(frozen=True)
class Neurons:
    """A feed-forward layer. Its site is ``site`` below the block.

    ``reads``: the linear layers whose rows and biases make a neuron, two where one gates the other; ``halves``: how many rows each of
    them has for one, all first ones before all second ones (2 where one layer holds both halves of a gated one).
    ``gate``: the module whose output is the neurons, or times which they are. ``writes``: the linear layer whose columns read them.
    ``row``, ``column``: where they begin in these, in widths of the model. ``group``: what a choice of sites calls it, if not ``site``.
    ``some``: only some blocks have it.
    """

    site: str
    reads: tuple[str, ...]
    gate: str
    writes: str
    halves: int = 1
    row: int = 0
    column: int = 0
    group: str = ""
    some: bool = False


@dataclass(frozen=True)
class Modulation:
    """A linear layer that makes what shifts, scales and gates the model's numbers, in ``chunks`` as wide as the model.

    More than one tuple of ``chunks`` where blocks differ; that with as many names as the layer has chunks holds.
    """

    site: str
    linear: str
    chunks: tuple[tuple[str, ...], ...] = (SIX,)


@dataclass(frozen=True)
class Heads:
    """The heads of the module ``attention`` that the first columns of ``writes`` read; ``some``: only some blocks have them."""

    site: str
    attention: str
    writes: str
    some: bool = False


Part = Neurons | Modulation | Heads


@dataclass(frozen=True)
class Blocks:
    """A list of blocks, all built alike, or with ``at`` "" what the transformer has but once. ``some``: not every model has the list."""

    at: str
    parts: tuple[Part, ...]
    some: bool = False


@dataclass(frozen=True)
class Family:
    """Models with the transformer class ``transformer`` of diffusers, however many blocks of whatever width.

    ``published``: the models it was declared for, as the hub calls them, with the diffusers pipeline of each. ``blocks``: in forward
    order. ``scope``: what a modulation output acts on; where it is "shared", on all blocks at once, and where it is "none", no layer
    makes it that could be masked. ``width``: the transformer's attribute that says how wide it is. ``single_file``: "module:function"
    that gives its tensors the names of the file it was published as, None where SafeFlux has none.
    """

    name: str
    transformer: str
    published: dict[str, str]
    blocks: tuple[Blocks, ...]
    scope: Scope
    width: str = "inner_dim"
    single_file: str | None = None

    @property
    def removed(self) -> str:
        """The class in ``safeflux`` of such a transformer with neurons cut out."""
        return "SafeFlux" + self.transformer.removeprefix("Flux")

    @property
    def released(self) -> tuple[str, ...]:
        """The published models that every command takes, since SafeFlux draws with their pipeline."""
        return tuple(name for name, pipeline in self.published.items() if pipeline == PIPELINE)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What can be masked, in the words of a choice of sites."""
        there = {type(part) for blocks in self.blocks for part in blocks.parts}
        return tuple(word for kind, word in ((Neurons, "neuron"), (Modulation, "modulation"), (Heads, "head")) if kind in there)
