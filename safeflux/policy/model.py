"""What a publisher wants, as plain frozen data. Made by ``load_policy``; nothing here checks anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Category = Literal["object", "style", "character", "identity", "nudity", "violence", "other"]
Preset = Literal["quick", "standard", "full"]


@dataclass(frozen=True)
class Choice:
    """A method, attack, metric, detector or exporter by its registered name, and the options the policy sets.

    Options that the policy leaves out keep the function's own defaults and are not listed here.
    """

    name: str
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Concept:
    """One thing that must go.

    ``targets`` are the words that name it (never empty; the first is usually ``name``), ``anchor`` what to draw instead
    ("" is the empty prompt), ``retain`` its near neighbours that must stay, ``label`` what the detector calls it. ``translations``: what
    it is called in other languages, by their code, each with its article. ``labelled``: absolute path of pictures that tell how often
    the detector is wrong, in the folders ``shown`` and ``others``.
    """

    name: str
    category: Category
    targets: tuple[str, ...]
    anchor: str
    retain: tuple[str, ...]
    detector: Choice
    label: str
    translations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labelled: str | None = None


@dataclass(frozen=True)
class Base:
    """The model to start from, as the policy writes it: "builtin:flux-mini", a path beginning with ".", "/" or "~", or a hub id.

    ``revision`` (40 hex digits) goes with a hub id, and only with one. ``safeflux.plan`` finds the directory. ``extends``: absolute
    path of an earlier release from this model, which stays erased; ``merges``: absolute paths of releases to make one of. Never both.
    """

    model: str
    revision: str | None = None
    extends: str | None = None
    merges: tuple[str, ...] = ()

    @property
    def embedded(self) -> bool:
        """Whether it is the FLUX that comes with SafeFlux, of whose world everything is known."""
        return self.model == "builtin:flux-mini"


@dataclass(frozen=True)
class Limit:
    """A rate in 0..1 and the one-sided confidence at which the audit has to show it (0.5..1, both ends excluded)."""

    value: float
    confidence: float = 0.95


@dataclass(frozen=True)
class Limits:
    """``detection``: at most, direct prompts. ``attack_success``: at most, every other attack. ``retained``: at least,
    as a share of the base model's own rate."""

    detection: Limit
    attack_success: Limit
    retained: Limit


@dataclass(frozen=True)
class Audit:
    """``images`` per concept and attack; None leaves it to the preset (see ``safeflux.plan``). ``stop_early``: no more of them are drawn
    by the erased model than it takes to decide a limit, with bounds that allow for looking after every batch. ``photographs``: absolute
    path of photographs of what the general prompts ask for."""

    preset: Preset
    attacks: tuple[Choice, ...]
    images: int | None = None
    stop_early: bool = False
    photographs: str | None = None


@dataclass(frozen=True)
class Bake:
    """How erased neurons stand in the weights; see ``safeflux.layouts``.

    ``layout`` of the directory that the release is. ``decoys`` go with "dense", ``multiple`` (of neurons that widths are rounded up to)
    with neurons that are cut out. ``kept``: whether it is published which neurons were kept where they were moved; "if-public": where the
    base is the embedded one or a hub's.
    """

    layout: Literal["dense", "removed"] = "dense"
    decoys: bool = False
    multiple: int = 1
    kept: Literal["if-public", "never", "always"] = "if-public"


@dataclass(frozen=True)
class ReportSettings:
    """What the model card says beyond measurements; ``pairs`` before/after picture pairs are shown per concept."""

    license: str | None = None
    intended_use: str | None = None
    contact: str | None = None
    pairs: int = 4


@dataclass(frozen=True)
class Signing:
    """``key``: absolute path of a private key, or the name of one that lies in no file (pkcs11:..., exec:..., sigstore:). ``demo``: make a
    throw-away key. Never both; neither leaves it to the command line."""

    key: str | None = None
    demo: bool = False
    publisher: str | None = None


@dataclass(frozen=True)
class Policy:
    """A whole policy. ``retain``: general nouns that must stay. ``source``: the file, None for text that came without one.
    ``digest``: sha256 (hex) of the file's bytes; ``text``: those bytes, decoded."""

    name: str
    version: str
    seed: int
    base: Base
    concepts: tuple[Concept, ...]
    retain: tuple[str, ...]
    method: Choice
    limits: Limits
    audit: Audit
    exports: tuple[Choice, ...]
    report: ReportSettings
    signing: Signing
    source: Path | None
    digest: str
    text: str
    bake: Bake = Bake()
