"""Write an edit into plain weights, with nothing left to hook or undo.

How a mask stands in them is said in ``layouts.py``; an erased FFN neuron loses its input row, its bias and its output column in every
layout, so that neither reading the file nor a gradient step brings it back. An erased modulation output loses its row and bias, which
fine-tuning can regrow; an erased attention head its output columns. Shards are rewritten one at a time, in the base's own dtype.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from safeflux.edits import changes, empty_transformer, placed
from safeflux.errors import ModelError, StageError
from safeflux.layouts import DENSE, Layout
from safeflux.models.declared import family, find_sites
from safeflux.models.flux1 import Flux1
from safeflux.models.quiet import quiet
from safeflux.models.removed import GUARD, PACKAGE, transformer_class
from safeflux.models.sites import gated
from safeflux.models.tensors import save_tensors
from safeflux.train.task import TrainingTask
from safeflux.types import KEPT, Edit, Masks

TOLERANCE = 1e-5  # of the largest latent, in float32


def bake(model_dir: Path, edit: Edit, out: Path, layout: Layout = DENSE, *, kept: bool = False) -> None:
    """Write ``transformer/`` and ``model_index.json`` of the baked model into ``out``; all else stays the base's.

    With ``kept``, also ``KEPT``: for each site that lost neurons, which of the base's units is in which slot (-1: none), where neurons
    were moved and the layout has no decoys to give away. An edit that takes no neurons is written densely, whatever ``layout`` says.

    Raises ``ModelError`` where the edit names what the model does not have.
    """
    source, target = model_dir / "transformer", out / "transformer"
    target.mkdir(parents=True)
    slots = placed(edit, source, layout)
    todo = changes(edit, source, layout)
    size = 0
    for path in sorted(p for p in source.iterdir() if p.is_file()):
        if path.suffix != ".safetensors":
            shutil.copyfile(path, target / path.name)
            continue
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {name: todo.pop(name, _same)(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        size += sum(tensor.nbytes for tensor in tensors.values())
        save_tensors(tensors, target / path.name, metadata)
    if todo:
        raise ModelError(f"{source}: the edit changes {', '.join(sorted(todo)[:3])}, which the weights do not have")
    shutil.copyfile(model_dir / "model_index.json", out / "model_index.json")
    if slots and layout.kind == "removed":
        _declare(out, source, {name: len(slot) for name, slot in slots.items()}, size)
    if slots and kept and not layout.ordered and not layout.decoys:
        save_tensors({name: slot.to(torch.int32) for name, slot in slots.items()}, out / KEPT, {"format": "pt"})


def _declare(out: Path, source: Path, widths: Mapping[str, int], size: int) -> None:
    """Say in the configurations of a model with ``widths`` (by site) what it is, and in the index of its shards how many bytes it has."""
    stock = empty_transformer(source)
    units, kind = {name: site.units for name, site in find_sites(stock).items()}, family(stock).removed
    path = out / "transformer" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    narrower = {name: width for name, width in widths.items() if width != units[name]}
    named = {"_class_name": kind, "quantization_config": GUARD, "widths": {**config.get("widths", {}), **narrower}}
    path.write_text(json.dumps(config | named, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    index = json.loads((out / "model_index.json").read_text(encoding="utf-8"))
    (out / "model_index.json").write_text(json.dumps(index | {"transformer": [PACKAGE, kind]}, indent=2) + "\n", encoding="utf-8")
    for path in (out / "transformer").glob("*.safetensors.index.json"):
        shards = json.loads(path.read_text(encoding="utf-8"))
        shards["metadata"] = {**shards.get("metadata", {}), "total_size": size}
        path.write_text(json.dumps(shards, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _same(tensor: Tensor) -> Tensor:
    return tensor


@contextmanager
def in_force(model: Flux1, edit: Edit) -> Iterator[None]:
    """The edit applied to a model in memory, undone at the end: by gates for masks, else by changed weights."""
    if isinstance(edit, Masks):
        gates = {name: keep.to(model.device, torch.float32) for name, keep in edit.keep.items()}
        with gated(model.transformer, model.sites(), gates):
            yield
        return
    state = model.transformer.state_dict()
    before = {}
    for name, change in changes(edit, model.directory / "transformer").items():
        before[name] = state[name].clone()
        state[name].copy_(change(state[name]))
    try:
        yield
    finally:
        for name, value in before.items():
            state[name].copy_(value)


def load_baked(model_dir: Path, baked: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Flux1:
    """The base with the baked transformer, of either layout, read back from disk."""
    with quiet():
        transformer = transformer_class(baked / "transformer").from_pretrained(baked / "transformer", dtype=dtype)
    return Flux1.load(model_dir, device=device, dtype=dtype, transformer=transformer)


@torch.no_grad()
def parity(base: Flux1, baked: Flux1, edit: Edit, task: TrainingTask, *, n: int = 8) -> dict[str, float | int | str]:
    """Final latents of the edited base against those of the baked model, from the same noise.

    Returns ``max_relative_error`` (largest difference over largest latent), the number of pictures and steps, and the
    dtype. Raises ``StageError`` when it exceeds ``TOLERANCE`` in float32: then what was baked is not what was trained.
    """
    texts = [*(p.prompt.text for ps in task.pairs.values() for p in ps[:2]), *(p.text for p in task.retain)][:n]
    cond, noise = task.embed(texts), base.noise([task.seed + i for i in range(len(texts))])
    with in_force(base, edit):
        wanted = base.sample(noise, cond, steps=task.steps)
    error = float((baked.sample(noise, cond, steps=task.steps) - wanted).abs().max() / wanted.abs().max())
    if base.dtype == torch.float32 and not error <= TOLERANCE:
        raise StageError(
            f"the baked weights draw otherwise than the edit they were made from: relative error {error:.2e}, at most {TOLERANCE:.0e}"
        )
    return {
        "max_relative_error": error,
        "tolerance": TOLERANCE,
        "images": len(texts),
        "steps": task.steps,
        "dtype": str(base.dtype).removeprefix("torch."),
    }
