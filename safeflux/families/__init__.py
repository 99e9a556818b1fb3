"""Which transformers SafeFlux can cut: a declaration for each family, in a file of its own. Imports no torch.

``safeflux/models/declared.py`` finds in a transformer what is declared here. A new family is one file, one line in the table, one class in
``safeflux/models/removed.py`` and one tiny model in ``tests/models/families.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safeflux.families.chroma import CHROMA
from safeflux.families.flux1 import FLUX1
from safeflux.families.flux2 import FLUX2
from safeflux.families.parts import PIPELINE, Family
from safeflux.families.qwen_image import QWEN_IMAGE
from safeflux.families.sd35 import SD35
from safeflux.families.z_image import Z_IMAGE

FAMILIES = (FLUX1, FLUX2, SD35, QWEN_IMAGE, Z_IMAGE, CHROMA)
_BY_CLASS = {name: family for family in FAMILIES for name in (family.transformer, family.removed)}

# What works on a model, in two words, and what they mean.
EVERYTHING, MASKS = "everything", "masks only"
MEANS = {
    EVERYTHING: "every command takes its diffusers directory.",
    MASKS: "a mask of its transformer can be put on, baked (neurons zeroed or cut out) and read back from Python; `safeflux bake` bakes "
    "one from a file. SafeFlux does not draw with its pipeline, so nothing trains a mask for it, audits it or makes a release of it.",
}


def family_of(transformer: object) -> Family | None:
    """The family of a transformer class, by its name: diffusers', or that of one with neurons cut out. None where there is none."""
    return _BY_CLASS.get(transformer) if isinstance(transformer, str) else None


def works(family: Family, model: str) -> str:
    """What of SafeFlux works on one of the family's published models: ``EVERYTHING`` or ``MASKS``."""
    return EVERYTHING if model in family.released else MASKS


def wrong_pipeline(index: Mapping[str, Any]) -> str | None:
    """What is wrong with the pipeline of a ``model_index.json``, and what works on it all the same; None where all commands take it."""
    named, part = index.get("_class_name"), index.get("transformer")
    if named == PIPELINE:
        return None
    family = family_of(part[1]) if isinstance(part, list) and len(part) == 2 else None
    said = f"says {named!r}; wanted {PIPELINE!r}"
    return f"{said}. {_only_masks(family)}" if family else said


def wrong_model(name: str) -> str | None:
    """The same of a model by its name on the hub; None where it is not known to be another than those that all commands take."""
    family = next((one for one in FAMILIES if name in one.published), None)
    if family is None or name in family.released:
        return None
    return f"its pipeline is {family.published[name]!r}; wanted {PIPELINE!r}. {_only_masks(family)}"


def _only_masks(family: Family) -> str:
    return f"It is a model of {family.name}, with {MASKS}: {MEANS[MASKS]} `safeflux list models` shows which models all commands take"
