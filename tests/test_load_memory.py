"""What ``load`` holds in memory beside the pipeline, and that nobody can change it."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from loading import load
from safetensors.torch import load_file

from safeflux_signing import copies, keys, tree
from safeflux_signing.verify import verify

THREADS = 4  # at most, of transformers' that read weights


def held() -> set[str]:
    """Memory files that are mapped, and so take memory, although no descriptor is left."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return {line for line in maps if "memfd:" in line and ".safetensors" in line}


@pytest.mark.skipif(not copies.can_seal(), reason="this system can seal no memory")
@pytest.mark.parametrize("converted", [True, False])
def test_one_shard_at_a_time_is_held_beside_the_model(tiny_signed: Path, monkeypatch: pytest.MonkeyPatch, converted: bool) -> None:
    """Also of the text encoder in shards, although transformers would open them all; of that one nothing stays in any case."""
    gc.collect()
    sealed, opened, others = copies.sealed, [], held()

    def beside_the_model() -> set[str]:
        """What is mapped and is no weight of the model: those that are not converted stay where they are, but in the text encoder."""
        return {line for line in held() - others if converted or "memfd:model-0000" in line}

    @contextmanager
    def watched(root: int, entry: Any) -> Iterator[str]:
        before = held()
        assert beside_the_model() == set()
        with sealed(root, entry) as path:
            yield path
            opened.append(entry.name)
            assert len(held()) == len(before) + 1

    monkeypatch.setattr(copies, "sealed", watched)
    pipeline = load(tiny_signed, **({"dtype": torch.bfloat16} if converted else {}))
    assert pipeline.transformer.dtype == (torch.bfloat16 if converted else torch.float32)
    assert beside_the_model() == set()
    files = {path.relative_to(tiny_signed).as_posix() for path in tiny_signed.glob("*/*.safetensors")}
    assert set(opened) == files
    assert len(opened) < 1.5 * len(files), "the shards of the text encoder are read one after the other, whatever threads there are"


@pytest.mark.skipif(not copies.can_seal(), reason="this system can seal no memory")
def test_a_copy_can_be_changed_by_nobody(tiny_signed: Path) -> None:
    entries = verify(tiny_signed, [keys.load_public(tiny_signed.parent / "publisher.pub")]).entries
    entry = next(entry for entry in entries if entry.name.startswith("transformer/") and entry.name.endswith(".safetensors"))
    with tree.opened(tiny_signed) as root, copies.sealed(root, entry) as path:
        assert Path(path).read_bytes() == (tiny_signed / entry.name).read_bytes()
        for flags in (os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_TRUNC):
            with pytest.raises(PermissionError):
                os.write(os.open(path, flags), b"x")


class Held:
    """The bytes that were read of each file of weights, and are still there: ``now``, and the ``most`` that ever were."""

    def __init__(self) -> None:
        self.now, self.most, self.lock = Counter[str](), Counter[str](), threading.RLock()

    def add(self, name: str, count: int) -> None:
        with self.lock:
            self.now[name] += count
            self.now["all"] += count
            self.most[name], self.most["all"] = max(self.most[name], self.now[name]), max(self.most["all"], self.now["all"])


class Read(bytearray):
    """Something that can be watched until the last tensor made of it is gone."""


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> Held:
    held, read = Held(), copies.Pieces.read

    def watched(self: Any, start: int, stop: int) -> bytearray:
        data = Read(read(self, start, stop))
        held.add(self._entry.name, len(data))
        weakref.finalize(data, held.add, self._entry.name, -len(data))
        return data

    monkeypatch.setattr(copies.Pieces, "read", watched)
    return held


@pytest.mark.parametrize("way", ["in pieces"], indirect=True)
@pytest.mark.parametrize("converted", [True, False])
def test_in_pieces_a_tensor_or_a_shard_is_held_beside_the_model(tiny_signed: Path, way: str, in_pieces: Held, converted: bool) -> None:
    """One tensor to a thread where the library asks for one after the other, as transformers does; diffusers asks for all of a file."""
    pipeline = load(tiny_signed, **({"dtype": torch.bfloat16} if converted else {}))
    gc.collect()
    assert pipeline.transformer.dtype == (torch.bfloat16 if converted else torch.float32)
    now, most = in_pieces.now, in_pieces.most
    tensors = {
        path.relative_to(tiny_signed).as_posix(): [value.nbytes for value in load_file(path).values()]
        for path in tiny_signed.glob("*/*.safetensors")
    }
    assert {name: now[name] for name in tensors} == {name: 0 if converted else sum(sizes) for name, sizes in tensors.items()}
    if converted:
        assert most["all"] <= max(map(sum, tensors.values()))
        for name, sizes in tensors.items():
            header = (tiny_signed / name).stat().st_size - sum(sizes)
            assert most[name] <= max(header, sum(sorted(sizes)[-THREADS:] if name.startswith("text") else sizes))
        sizes = tensors["text_encoder/model.safetensors"]
        assert sum(sorted(sizes)[-THREADS:]) < sum(sizes), "else the bound above says nothing"
