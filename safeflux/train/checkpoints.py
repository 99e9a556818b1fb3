"""Training that survives being killed: gates and optimiser, written whole and moved into place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from safeflux.train.gates import Gates

EVERY = 10  # updates


class Checkpoints:
    """Keeps ``gates`` and their Adam state in a directory, or nowhere if it is None."""

    def __init__(self, directory: Path | None, gates: Gates, adam: torch.optim.Adam) -> None:
        self._path = None if directory is None else directory / "gates.safetensors"
        self._gates, self._adam = gates, adam

    def save(self, done: int) -> None:
        """Write the state after ``done`` updates, every ``EVERY`` of them."""
        if self._path is None or done % EVERY:
            return
        tensors: dict[str, Tensor] = {}
        for name, logit in self._gates.logits.items():
            tensors[f"logit.{name}"] = logit.detach().clone()
            tensors |= {f"{key}.{name}": value for key, value in self._state(logit).items() if isinstance(value, Tensor)}
        partial = self._path.with_suffix(".partial")
        save_file(tensors, partial, metadata={"done": str(done)})
        partial.replace(self._path)

    def resume(self) -> int:
        """Load what is there; returns how many updates it stands for (0 if there is nothing)."""
        if self._path is None or not self._path.is_file():
            return 0
        with safe_open(self._path, "pt") as file:
            done = int(file.metadata()["done"])
            for name, logit in self._gates.logits.items():
                with torch.no_grad():
                    logit.copy_(file.get_tensor(f"logit.{name}"))
                self._adam.state[logit] = {key: file.get_tensor(f"{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
        return done

    def _state(self, logit: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self._adam.state[logit]
        return state
