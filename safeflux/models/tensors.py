"""Files of tensors: read one tensor at a time, written so that they come out the same again, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from safeflux.types import Progress

_NAMES = {  # of number formats, as safetensors writes them
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2", torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL",
}  # fmt: skip
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}

Readers = Mapping[str, Callable[[], Tensor]]  # how to read tensors, by name, one at a time


@dataclass(frozen=True)
class Stored:
    """A tensor that is read, or made, when it is needed."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]


def stored(directory: Path) -> dict[str, Stored]:
    """Every tensor of the safetensors files in ``directory``."""
    found: dict[str, Stored] = {}
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                found[name] = Stored(tuple(part.get_shape()), _DTYPES[part.get_dtype()], partial(_read, path, name))
    return found


def _read(path: Path, name: str) -> Tensor:
    with safe_open(path, "pt") as file:
        tensor: Tensor = file.get_tensor(name)
    return tensor


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """One safetensors file, the same bytes for the same input: the library alone writes two or more items of metadata in any order."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata=dict(metadata or {}) or None)
    if len(metadata or {}) < 2:
        return
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= size, "the header is written as the library writes it, so it has its length"
        file.seek(8)
        file.write(text.ljust(size))


def stream_tensors(tensors: Mapping[str, Stored], path: Path, metadata: Mapping[str, str], progress: Progress | None = None) -> None:
    """One safetensors file that is larger than memory may be: one tensor is held at a time.

    Laid out as the library does it, the widest numbers first, so that none lies across a boundary of its own width.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name, one in ordered:
        begin, end = end, end + one.dtype.itemsize * torch.Size(one.shape).numel()
        header[name] = {"dtype": _NAMES[one.dtype], "shape": list(one.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for done, (name, one) in enumerate(ordered):
            if progress:
                progress(path.name, done, len(ordered))
            tensor = one.read()
            assert (tuple(tensor.shape), tensor.dtype) == (one.shape, one.dtype), f"{name} is not what its header says"
            file.write(tensor.contiguous().view(torch.uint8).numpy().data)


def header(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor in a safetensors file, without its numbers."""
    with safe_open(path, "pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
