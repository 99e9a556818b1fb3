"""Painters for audits whose attacks run in other processes, which know only what this module tells them when it is imported there."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from painted import Painter, riddle

from safeflux import registry
from safeflux.types import AuditTask, Sample

PLUG_INS = {
    "attack": {"riddle": "painted:riddle", "broken": "painted:broken", "ladder": "painted:ladder", "deadly": f"{__name__}:deadly"},
    "detector": {"painted": "painted:painted"},
}


@dataclass(frozen=True)
class Painting:
    """Loads a painter, and notes each process that does in ``log``."""

    gone: tuple[str, ...]
    log: Path

    def __call__(self) -> Painter:
        with self.log.open("a", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        return Painter(gone=self.gone)


def deadly(model: Painter, task: AuditTask, *, images: int = 60, when: str = "", wait: float = 0.0) -> Iterator[Sample]:
    """An attack whose process dies while the file ``when`` is there; it waits so long before every picture."""
    if Path(when).is_file():
        os._exit(9)
    for sample in riddle(model, task, images=images):
        time.sleep(wait)
        yield sample


def plug_in() -> None:
    for kind, table in PLUG_INS.items():
        registry.BUILT_IN[kind] = registry.BUILT_IN[kind] | table  # type: ignore[index, misc]
    registry._table.cache_clear()


if multiprocessing.current_process().name != "MainProcess":
    plug_in()
