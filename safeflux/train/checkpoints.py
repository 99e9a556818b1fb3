"""Training that survives being killed: all of it that changes, written whole and moved into place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from safeflux.plan.erasing import EVERY


class Resumed(NamedTuple):
    """Updates done, and what was given to ``save`` beside the trained tensors; 0 and nothing where there was no checkpoint."""

    done: int
    more: dict[str, Tensor]
    data: Any


class Checkpoints:
    """Keeps ``trained`` tensors, by name, and what the optimiser holds of them in a directory, or nowhere if it is None."""

    def __init__(self, directory: Path | None, trained: Mapping[str, Tensor], tool: torch.optim.Optimizer) -> None:
        self._path = None if directory is None else directory / "training.safetensors"
        self._trained, self._tool = trained, tool

    def save(self, done: int, more: Mapping[str, Tensor] | None = None, data: object = None) -> None:
        """Write the state after ``done`` updates, every ``EVERY`` of them; ``data`` is anything JSON can hold."""
        if self._path is None or done % EVERY:
            return
        tensors = {f"more.{name}": tensor.detach().contiguous() for name, tensor in (more or {}).items()}
        for name, value in self._trained.items():
            tensors[f"value.{name}"] = value.detach().clone()
            tensors |= {f"{key}.{name}": part for key, part in self._state(value).items() if isinstance(part, Tensor)}
        partial = self._path.with_suffix(".partial")
        save_file(tensors, partial, metadata={"done": str(done), "data": json.dumps(data)})
        partial.replace(self._path)

    def resume(self) -> Resumed:
        """Load what is there into the trained tensors and the optimiser."""
        if self._path is None or not self._path.is_file():
            return Resumed(0, {}, None)
        with safe_open(self._path, "pt") as file:
            metadata = file.metadata()
            for name, value in self._trained.items():
                with torch.no_grad():
                    value.copy_(file.get_tensor(f"value.{name}"))
                keys = [key.removesuffix(f".{name}") for key in file.keys() if key.endswith(f".{name}") and key != f"value.{name}"]  # noqa: SIM118
                self._tool.state[value] = {key: file.get_tensor(f"{key}.{name}").to(_home(key, value)) for key in keys}
            more = {key.removeprefix("more."): file.get_tensor(key) for key in file.keys() if key.startswith("more.")}  # noqa: SIM118
        return Resumed(int(metadata["done"]), more, json.loads(metadata["data"]))

    def _state(self, value: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self._tool.state[value]
        return state


def _home(key: str, value: Tensor) -> torch.device:
    """Adam counts its steps on the CPU, wherever its moments are."""
    return torch.device("cpu") if key == "step" else value.device
