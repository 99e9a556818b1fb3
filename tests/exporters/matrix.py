"""What comes of each layout in each format at each consumer: the rows of docs/exports.md, each found out by running it.

Run as a program, this file writes that document anew from what stands here; a test runs every row and compares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import versions
from test_bake import random_mask
from tiny import transformer

from safeflux import check, registry
from safeflux.bake import bake, in_force
from safeflux.edits import load_edit, save_edit
from safeflux.errors import SafeFluxError
from safeflux.exporters.diffusers import diffusers
from safeflux.layouts import DENSE, Layout
from safeflux.models import comfyui
from safeflux.models.flux1 import Flux1
from safeflux.models.flux1_original import original
from safeflux.models.tensors import Stored

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "exports.md"
LAYOUTS = {"dense": DENSE, "dense, decoys": Layout(decoys=True, secret=b"s"), "removed": Layout("removed", secret=b"s")}
DIFFUSERS = {"keys": "diffusers"}


@dataclass(frozen=True)
class Places:
    """A tiny FLUX ``base`` with a third of everything erased, in ``work``: in every layout, and as the masked model."""

    base: Path
    work: Path

    @cached_property
    def edit(self) -> Path:
        save_edit(random_mask(self.base, closed=0.3), self.work / "edit.safetensors")
        return self.work / "edit.safetensors"

    def baked(self, layout: str) -> Path:
        """A release's root in that layout."""
        out = self.work / layout.replace(", ", "-")
        if not out.exists():
            bake(self.base, load_edit(self.edit), out / "baked", LAYOUTS[layout])
            diffusers(out / "baked", out / "root", base=self.base)
        return out / "root"

    @cached_property
    def reference(self) -> Path:
        model = Flux1.load(self.base)
        with in_force(model, load_edit(self.edit)):
            check.write_reference(model, ["a sword", "a cat"], self.work / "reference.safetensors", seed=5, steps=2)
        return self.work / "reference.safetensors"

    def exported(self, layout: str, name: str, options: dict[str, Any]) -> Path:
        out = self.work / "-".join([name, *options.values(), layout.replace(", ", "-")])
        if not out.exists():
            out.mkdir()
            registry.get("exporter", name)(self.baked(layout), out, base=self.base, **options)
        return out


@dataclass(frozen=True)
class Row:
    """One line of the table. ``run`` finds out what ``says`` says; ``needs``: a package."""

    layout: str
    format: str
    consumer: str
    says: str
    run: Callable[[Places], str]
    needs: str | None = None


def loads(layout: str, name: str, **options: str) -> Callable[[Places], str]:
    """Exported, loaded by its public loader, and compared with the masked model as a release is."""

    def run(places: Places) -> str:
        moved = layout != "dense"
        exported = places.baked(layout) if name == "diffusers" else places.exported(layout, name, options)
        edit = None if moved and name not in ("diffusers", "delta") else places.edit  # None: they have to be the weights of the root
        request = check.Request(
            name, str(exported), str(places.baked(layout)), str(places.base), None if edit is None else str(edit),
            str(places.reference), ["a sword", "a cat"], [], 5, 2, "float32", moved and name == "diffusers",
        )  # fmt: skip
        found = check.answer(request)
        assert found["finite"]
        assert found["nonzero"] == 0
        assert found["relative_error"] <= found["tolerance"]
        same, none = found["weights_error"] == 0, found["weights_error"] is None
        weights = "" if none else "weights the same, bit for bit; " if same else "weights rounded, zeros zero; "
        return f"loads; {weights}latents within {found['tolerance']:g}"

    return run


def refused(layout: str, name: str, **options: str) -> Callable[[Places], str]:
    """What the exporter says instead of writing anything."""

    def run(places: Places) -> str:
        try:
            places.exported(layout, name, options)
        except SafeFluxError as error:
            return f"refused: {error}"
        return "loads"

    return run


def another_base(places: Places) -> str:
    from safeflux.delta import read

    try:
        read(places.exported("dense", "delta", {}) / "masks.safetensors", places.baked("dense"))
    except SafeFluxError as error:
        return "refused: " + str(error).split(": ")[-1]
    return "loads"


def comfyui_rules(places: Places) -> str:
    model = transformer(blocks=2, heads=1, head_dim=128)
    parts = original({name: Stored(tuple(t.shape), t.dtype, lambda t=t: t) for name, t in model.state_dict().items()})
    found = comfyui.detect({name: one.shape for name, one in parts.items()})
    return f"a FLUX of {found['double']} double and {found['single']} single blocks, every layer of the shape that is built"


CUT = "neurons that were cut out can be exported as a diffusers directory only, or kept as zeros (the layout dense)"
NARROW = "single_transformer_blocks.0.proj_mlp.weight has 93 neurons, and every reader of a single file takes 128: " + CUT
WIDTH = (
    "the transformer is 32 wide, and readers of the original layout know 3072 only; keys: diffusers writes one file under diffusers' own "
    "names, which diffusers loads at any width"
)
SAME, ROUNDED = "loads; weights the same, bit for bit; latents within 1e-05", "loads; weights rounded, zeros zero; latents within "
PIPELINE, FILE = "`FluxPipeline.from_pretrained`", "`FluxTransformer2DModel.from_single_file`"
ROWS = [
    Row("dense", "diffusers", PIPELINE, SAME, loads("dense", "diffusers")),
    Row("dense, decoys", "diffusers", PIPELINE, SAME, loads("dense, decoys", "diffusers")),
    Row("removed", "diffusers", f"{PIPELINE} after `import safeflux`", SAME, loads("removed", "diffusers")),
    Row(
        "dense", "single-file, original names", "ComfyUI's rules",
        "a FLUX of 2 double and 2 single blocks, every layer of the shape that is built", comfyui_rules,
    ),
    Row("dense", "single-file, original names, another width", "any", f"refused: {WIDTH}", refused("dense", "single-file")),
    Row("dense", "single-file, diffusers' names", FILE, SAME, loads("dense", "single-file", **DIFFUSERS)),
    Row("dense, decoys", "single-file, diffusers' names", FILE, SAME, loads("dense, decoys", "single-file", **DIFFUSERS)),
    Row("removed", "single-file", "any", f"refused: {NARROW}", refused("removed", "single-file", **DIFFUSERS)),
    Row("dense", "fp8, diffusers' names", FILE, f"{ROUNDED}0.25", loads("dense", "fp8", **DIFFUSERS)),
    Row("removed", "fp8", "any", f"refused: {NARROW}", refused("removed", "fp8", **DIFFUSERS)),
    Row("dense", "gguf, diffusers' names", f"{FILE}, GGUF", f"{ROUNDED}0.05", loads("dense", "gguf", **DIFFUSERS), needs="gguf"),
    Row("removed", "gguf", "any", f"refused: {NARROW}", refused("removed", "gguf", **DIFFUSERS), needs="gguf"),
    Row("dense", "delta", "`safeflux bake --masks`", SAME, loads("dense", "delta")),
    Row("removed", "delta", "`safeflux bake --masks`", SAME, loads("removed", "delta")),
    Row("dense", "delta", "the same, another base", "refused: name the very model it was made from", another_base),
]  # fmt: skip


def document() -> str:
    """The text of docs/exports.md."""
    lines = [
        "# Which format loads where",
        "",
        "Each line is run by a test (`tests/exporters/test_matrix.py`) on a tiny random FLUX of which a third was erased.",
        "*Bit for bit*: as in the masked model, or, with decoys, as in the",
        "release's root. *Latents within*: what the check of a release allows, of the largest latent, after all steps. ComfyUI is no",
        "library; its rules are written down in `safeflux/models/comfyui.py` and held against the header of the file. Forge was not run.",
        "Stock diffusers without `import safeflux` refuses the layout `removed` in one line (`tests/models/test_removed.py`).",
        "",
        "| layout | format | consumer | what comes of it |",
        "|---|---|---|---|",
        *(f"| {row.layout} | {row.format} | {row.consumer} | {row.says} |" for row in ROWS),
        "",
        "ONNX in onnxruntime and in optimum's `ORTFluxPipeline`: `tests/exporters/test_export_onnx.py`. The embedded FLUX, pruned, in",
        "`ORTFluxPipeline`: latents after four steps within 1e-05 of torch's in 32 bits, of either layout, and within 0.005 in 16, of the",
        "dense one; the detector says the same of every picture (`tests/exporters/test_onnx_mini.py`). The original layout at FLUX.1's",
        "full width, bit for bit: `tests/exporters/test_single_file.py`. All take minutes (`pytest -n 0 -m slow`).",
        "",
        "A release of layout `removed` writes its other formats from a dense bake of the same mask. `safeflux export` has only the root",
        "of a release, so there the refusals above hold.",
        "",
        *versions.text(),
        "",
        "What `torch.compile` costs where neurons were cut out: [compiling.md](compiling.md).",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
