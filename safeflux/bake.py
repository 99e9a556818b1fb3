"""Write an edit into plain weights, with nothing left to hook or undo.

The layout is dense: a stock FLUX with zeros in place. An erased FFN neuron loses its input row, its bias and its output
column, so that neither reading the file nor a gradient step brings it back; an erased modulation output loses its row and
bias; an erased attention head its output columns. Shards are rewritten one at a time, in the base's own dtype and layout.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import assert_never

import torch
from accelerate import init_empty_weights
from diffusers import FluxTransformer2DModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from safeflux.errors import ModelError, StageError
from safeflux.models.flux1 import Flux1
from safeflux.models.flux1_sites import find_sites
from safeflux.models.quiet import quiet
from safeflux.models.sites import Site, gated
from safeflux.train.task import TrainingTask
from safeflux.types import Edit, LowRank, Masks, Weights

Change = Callable[[Tensor], Tensor]
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
        save_file({n: t.contiguous() for n, t in tensors.items()}, target / path.name, metadata=metadata)
    if todo:
        raise ModelError(f"{source}: the edit changes {', '.join(sorted(todo)[:3])}, which the weights do not have")


def _same(tensor: Tensor) -> Tensor:
    return tensor


def empty_transformer(directory: Path) -> FluxTransformer2DModel:
    """The transformer of a ``transformer/`` directory without its weights, on the meta device."""
    config = FluxTransformer2DModel.load_config(directory)
    with init_empty_weights():
        return FluxTransformer2DModel.from_config(config)


def changes(edit: Edit, transformer_dir: Path) -> dict[str, Change]:
    """What happens to each tensor of the state dict that the edit touches."""
    match edit:
        case Masks():
            return _mask_changes(edit, find_sites(empty_transformer(transformer_dir)))
        case LowRank():
            return {f"{path}.weight": _added(down, up) for path, (down, up) in edit.factors.items()}
        case Weights():
            return {name: _replaced(name, value) for name, value in edit.tensors.items()}
        case _:
            assert_never(edit)


def _mask_changes(edit: Masks, sites: Mapping[str, Site]) -> dict[str, Change]:
    found: dict[str, list[Change]] = {}
    for name, keep in edit.keep.items():
        site = sites.get(name)
        if site is None or site.units != len(keep):
            raise ModelError(f"the mask has {len(keep)} units at {name}; the model {site.units if site else 'no such site'}")
        gone = (~keep.bool()).nonzero().flatten()
        if site.reads:
            found.setdefault(f"{site.reads}.weight", []).append(_zeroed(site.row + gone, 0))
            found.setdefault(f"{site.reads}.bias", []).append(_zeroed(site.row + gone, 0))
        if site.writes:
            columns = (site.column + gone[:, None] * site.width + torch.arange(site.width)).flatten()
            found.setdefault(f"{site.writes}.weight", []).append(_zeroed(columns, 1))
    return {name: _all(parts) for name, parts in found.items()}


def _zeroed(index: Tensor, dim: int) -> Change:
    return lambda t: t.clone().index_fill_(dim, index, 0)


def _all(parts: list[Change]) -> Change:
    def change(t: Tensor) -> Tensor:
        for part in parts:
            t = part(t)
        return t

    return change


def _added(down: Tensor, up: Tensor) -> Change:
    return lambda t: (t.float() + up.float() @ down.float()).to(t.dtype)


def _replaced(name: str, value: Tensor) -> Change:
    def change(t: Tensor) -> Tensor:
        if t.shape != value.shape:
            raise ModelError(f"{name}: the edit has shape {tuple(value.shape)}, the weights {tuple(t.shape)}")
        return value.to(t.dtype)

    return change


def save_edit(edit: Edit, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """One safetensors file; ``metadata`` must be text."""
    match edit:
        case Masks():
            tensors = {name: keep.bool().contiguous() for name, keep in edit.keep.items()}
        case LowRank():
            tensors = {f"{n}.{part}": t.contiguous() for n, (d, u) in edit.factors.items() for part, t in (("down", d), ("up", u))}
        case Weights():
            tensors = {name: t.contiguous() for name, t in edit.tensors.items()}
        case _:
            assert_never(edit)
    save_file(tensors, path, metadata={**(metadata or {}), "edit": type(edit).__name__})


def load_edit(path: Path) -> Edit:
    """Read what ``save_edit`` wrote. Raises ``ModelError`` for anything else."""
    try:
        with safe_open(path, "pt") as file:
            kind = (file.metadata() or {}).get("edit")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise ModelError(f"{path}: not a safetensors file: {error}") from error
    match kind:
        case "Masks":
            return Masks(tensors)
        case "LowRank":
            paths = {name.rsplit(".", 1)[0] for name in tensors}
            return LowRank({p: (tensors[f"{p}.down"], tensors[f"{p}.up"]) for p in sorted(paths)})
        case "Weights":
            return Weights(tensors)
    raise ModelError(f"{path}: its metadata names the edit {kind!r}; wanted Masks, LowRank or Weights")


def erased(edit: Edit) -> dict[str, dict[str, int]]:
    """Units removed and units there were, by site, for the report; empty for edits that remove none."""
    if not isinstance(edit, Masks):
        return {}
    return {name: {"removed": int((~keep.bool()).sum()), "units": len(keep)} for name, keep in edit.keep.items()}


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


__all__ = ["bake", "changes", "erased", "in_force", "load_baked", "load_edit", "parity", "save_edit"]
