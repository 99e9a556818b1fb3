"""The shards of a model whose library opens all of them at once: opened one at a time, whichever a weight is asked of.

transformers opens every shard of a model before it reads the first weight, and keeps them until the last one is converted. Where
opening a file means to copy it to memory, as in ``load.py``, that would be the whole model once more. So it is given stand-ins: the
index says which weights a shard has, and the shard is opened when one of them is asked for, and another one closed for it. A weight is
handed out as a copy of its own, which keeps no shard open.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from safeflux.errors import ModelError

_STRAGGLERS = 0.2  # seconds for which a shard stays open for other threads that are about to read from it: opening it again takes longer

_T = TypeVar("_T")


def listed(path: Path) -> list[str] | None:
    """The weights of the shard ``path``, by the index beside it; None if it is no shard."""
    for index in sorted(path.parent.glob("*.safetensors.index*.json")):
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        if path.name in places.values() and len(set(places.values())) > 1:
            return [name for name, place in places.items() if place == path.name]
    return None


class Shards:
    """At most one open shard among those of any number of models, for any number of threads.

    ``failed``: every error is noted there, too, since whoever asks for a weight may pass over it.
    """

    def __init__(self, failed: list[Exception]) -> None:
        self._failed = failed
        self._turn = threading.Condition()
        self._current: Shard | None = None
        self._file: Any = None
        self._over = False

    def ask(self, shard: Shard, use: Callable[[Any], _T]) -> _T:
        """What ``use`` makes of the open ``shard``, of which it must keep nothing. Raises what opening it raises, and ModelError."""
        with self._turn:
            try:
                self._open(shard)
                return use(self._file)
            except Exception as error:
                self._failed.append(error)
                raise
            finally:
                self._turn.notify_all()

    def close(self, *, for_good: bool = False) -> None:
        """Close the one that is open, if any; if ``for_good``, none is opened any more."""
        with self._turn:
            self._over |= for_good
            self._current = self._file = None

    def _open(self, shard: Shard) -> None:
        self._turn.wait_for(lambda: self._current in (None, shard) or not self._current.unread, _STRAGGLERS)
        if self._over:
            raise ModelError(f"{shard.name}: a weight was asked for after the model had been loaded")
        if self._current is not shard:
            self._current = self._file = None
            self._file = shard.open()
            if set(self._file.keys()) != set(shard.keys()):
                raise ModelError(f"{shard.name} holds other weights than the index beside it says; have the model saved again")
            self._current = shard


class Shard:
    """What stands in for a file opened by ``safetensors.safe_open``: one that ``open`` opens, and of which ``weights`` are the names.

    ``lasting``: what is read from it has memory of its own already, and is handed out as it is.
    """

    def __init__(self, shards: Shards, name: str, weights: Iterable[str], open: Callable[[], Any], *, lasting: bool = False) -> None:
        self.name, self.open, self.lasting, self.unread = name, open, lasting, set(weights)
        self._shards, self._weights = shards, list(weights)

    def __enter__(self) -> Shard:
        return self

    def __exit__(self, *_: object) -> None:
        self._shards.close()

    def keys(self) -> list[str]:
        return self._weights

    def metadata(self) -> Any:
        return self._shards.ask(self, lambda file: file.metadata())

    def get_tensor(self, weight: str) -> Any:
        return self.get_slice(weight)[...]

    def get_slice(self, weight: str) -> Slice:
        return Slice(self, weight, lambda use: self._shards.ask(self, lambda file: use(file.get_slice(weight))))


class Slice:
    """What stands in for ``safe_open(...).get_slice(...)``: a weight that was not read yet."""

    def __init__(self, shard: Shard, weight: str, ask: Callable[[Callable[[Any], Any]], Any]) -> None:
        self._shard, self._weight, self._ask = shard, weight, ask

    def get_shape(self) -> Any:
        return self._ask(lambda weight: weight.get_shape())

    def get_dtype(self) -> Any:
        return self._ask(lambda weight: weight.get_dtype())

    def __getitem__(self, index: Any) -> Any:
        def read(weight: Any) -> Any:
            self._shard.unread.discard(self._weight)
            value = weight[index]
            return value if self._shard.lasting else value.clone()

        return self._ask(read)
