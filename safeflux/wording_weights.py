"""How a report speaks of the weights: what was taken, how it stands in the files, and what brings it back."""

from __future__ import annotations

import re

from safeflux.wording import Json, percent

_MODULATION = re.compile(r"\.norm\d*(_context)?\.")
_SLOTS = {
    "dense": "Erased neurons are zeros in their places: input row, bias and output column. No gradient reaches them, and of a whole "
    "neuron nothing is left to guess it from; an adapter over feed-forward layers can write something new into its slot.",
    "decoys": "The slots of erased neurons hold others, drawn like their neighbours, whose effects add up to nothing, and all neurons of "
    "such a layer stand in a random order. Whoever looks for equal input rows finds the decoys, and nothing of what was erased in them; "
    "fine-tuning can use them as neurons.",
    "removed": "Erased neurons are not in the files, and those that stayed beside them stand in a random order: there is no slot to "
    "write anything into.",
}


def edit_in_words(edit: Json) -> str:
    """How much of the base model the edit took away."""
    units, gone = sum(site["units"] for site in edit["sites"]), sum(site["removed"] for site in edit["sites"])
    touched = sum(site["removed"] > 0 for site in edit["sites"])
    if edit["kind"] == "unknown":
        cut = f" {gone:,} neurons were cut out of {touched} of its layers, which had {units:,}." if gone else ""
        return f"How the model was made is not known.{cut}{_moved(edit)}"
    kind = f"An edit of kind {edit['kind'].replace('_', ' ')}"
    if not units:
        return f"{kind}; it removes no units.{_moved(edit)}"
    said = f"{kind}: {gone:,} of {units:,} units ({percent(gone / units)}) are gone, from {touched} of {len(edit['sites'])} places."
    if edit.get("parameters") and "zeroed" in edit:
        share = percent(edit["zeroed"] / edit["parameters"])
        said += f" {edit['zeroed']:,} of {edit['parameters']:,} parameters ({share}) are zero because of it."
    return said + _moved(edit)


def _moved(edit: Json) -> str:
    """How far the weights are from the base's."""
    if not {"parameters", "changed", "relative_change"} <= edit.keys():
        return ""
    moved = f"{percent(edit['relative_change'])} of the weights' norm"
    return f" {edit['changed']:,} of {edit['parameters']:,} parameters differ from the base's, by {moved}."


def parity_in_words(bake: Json) -> str:
    """What the check of the baked weights against the edited model found."""
    if "relative_error" not in bake or "tolerance" not in bake:
        return "No comparison between the edited and the baked model was recorded."
    said = f"Their final latents differ from those of the edited model by {bake['relative_error']:.1e} relative at most"
    said += f" (allowed: {bake['tolerance']:.0e})"
    said += f", over {bake['rollouts']} sampling runs" if "rollouts" in bake else ""
    said += f", in {bake['dtype']}" if "dtype" in bake else ""
    return said + (f". Layout: {bake['layout']}." if "layout" in bake else ".")


def revivable(report: Json) -> list[str]:
    """How the erasure stands in the weights, and what of it somebody who has them can undo."""
    sites, bake = report["edit"]["sites"], report["bake"]
    outputs = sum(site["removed"] for site in sites if _MODULATION.search(site["site"]))
    neurons = sum(site["removed"] for site in sites) - outputs
    said = []
    if neurons and "layout" in bake:
        said.append(_SLOTS["decoys" if bake.get("decoys") else bake["layout"]])
    if outputs:
        said.append(f"{outputs:,} of the units are outputs of modulation layers, zero rows: a few steps of fine-tuning grow them again.")
    if single := report["edit"].get("scattered"):
        said.append(
            f"{single:,} single weights were zeroed between others that were not. These are revivable: their places show, and what stands "
            "around them tells enough of them, without data or training (arXiv 2603.06640)."
        )
    return said
