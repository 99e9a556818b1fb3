"""Write an edit into plain weights, with nothing left to hook or undo.

The layout is dense: a stock FLUX with zeros in place. An erased FFN neuron loses its input row, its bias and its output
column, so that neither reading the file nor a gradient step brings it back; an erased modulation output loses its row and
bias; an erased attention head its output columns. Shards are rewritten one at a time, in the base's own dtype and layout.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel
from safetensors import safe_open
from torch import Tensor

from safeflux.edits import changes
from safeflux.errors import ModelError, StageError
from safeflux.models.flux1 import Flux1
from safeflux.models.quiet import quiet
from safeflux.models.sites import gated
from safeflux.models.tensors import save_tensors
from safeflux.train.task import TrainingTask
from safeflux.types import Edit, Masks

TOLERANCE = 1e-5  # of the largest latent, in float32


def bake(model_dir: Path, edit: Edit, out: Path) -> None:
    """Write ``transformer/`` and ``model_index.json`` of the baked model into ``out``; all else stays the base's.

    Raises ``ModelError`` where the edit names what the model does not have.
    """
    source, target = model_dir / "transformer", out / "transformer"
    target.mkdir(parents=True)
    todo = changes(edit, source)
    shutil.copyfile(model_dir / "model_index.json", out / "model_index.json")
    for path in sorted(p for p in source.iterdir() if p.is_file()):
        if path.suffix != ".safetensors":
            shutil.copyfile(path, target / path.name)
            continue
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {name: todo.pop(name, _same)(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        save_tensors(tensors, target / path.name, metadata)
    if todo:
        raise ModelError(f"{source}: the edit changes {', '.join(sorted(todo)[:3])}, which the weights do not have")


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
    """The base with the baked transformer, read back from disk."""
    with quiet():
        transformer = FluxTransformer2DModel.from_pretrained(baked / "transformer", dtype=dtype)
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
