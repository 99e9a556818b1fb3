"""A safetensors file read one tensor after the other, each checked in the memory that it is then used from.

For systems without memory that can be sealed: there is no path that could be given to the library, so ``Weights`` stands in for
what ``safetensors.safe_open`` returns. It reads the header itself, and refuses what the library refuses.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from safetensors import SafetensorError

from safeflux_signing import strictjson
from safeflux_signing.copies import Pieces
from safeflux_signing.errors import SigningError
from safeflux_signing.strictjson import Json

MAX_HEADER = 100_000_000  # bytes; the library's own limit
TORCH = ("pt", "torch", "pytorch")

_DTYPES = {  # of torch, by the names of the format
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "I32": "int32", "U32": "uint32", "I64": "int64",
    "U64": "uint64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu", "F4": "float4_e2m1fn_x2",
}  # fmt: skip
_PACKED = ("F4",)  # two numbers to an element of torch, along the last axis


@dataclass(frozen=True)
class _Place:
    """Where in a file a tensor stands, and what it is: ``dtype`` and ``shape`` as the header has them."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class Weights:
    """What stands in for a file opened by ``safetensors.safe_open``. Every tensor handed out has memory of its own.

    ``failed``: errors of reading are noted there, too, since the library that asks may turn them into its own. Raises
    SafetensorError for what is no file of tensors for torch, SigningError (json-...) for a header that is not plain JSON.
    """

    def __init__(
        self, pieces: Pieces, name: str, failed: list[Exception], framework: str, device: Any = "cpu", *, backend: str = "mmap"
    ) -> None:
        if framework not in TORCH or sys.byteorder != "little":
            raise SafetensorError(f"{name} can be read for torch only, and on this system only with its numbers' low bytes first")
        self._pieces, self._failed, self._device = pieces, failed, device
        self._places, self._metadata = _header(pieces, name)

    def __enter__(self) -> Weights:
        return self

    def __exit__(self, *_: object) -> None:
        self._pieces.close()

    def keys(self) -> list[str]:
        return sorted(self._places)

    def offset_keys(self) -> list[str]:
        return list(self._places)

    def metadata(self) -> dict[str, str] | None:
        return self._metadata

    def get_tensors(self) -> dict[str, torch.Tensor]:
        return {name: self.get_tensor(name) for name in self._places}

    def get_tensor(self, name: str) -> torch.Tensor:
        place = self._place(name)
        try:
            data = self._pieces.read(place.start, place.stop)
        except SigningError as error:
            self._failed.append(error)
            raise
        except ValueError as error:
            raise SafetensorError(f"File is closed: {error}") from error
        dtype, shape = _as_torch(name, place)
        # Of no bytes at all, frombuffer makes nothing.
        tensor = torch.frombuffer(data, dtype=dtype).reshape(shape) if data else torch.empty(shape, dtype=dtype)
        return tensor.to(self._device)

    def get_slice(self, name: str) -> Part:
        place = self._place(name)
        return Part(place.dtype, list(place.shape), lambda: self.get_tensor(name))

    def _place(self, name: str) -> _Place:
        if name not in self._places:
            raise SafetensorError(f"File does not contain tensor {name}")
        return self._places[name]


@dataclass(frozen=True)
class Part:
    """What stands in for ``safe_open(...).get_slice(...)``: a tensor that is read, as a whole, when something of it is asked for."""

    dtype: str
    shape: list[int]
    read: Callable[[], torch.Tensor]

    def get_dtype(self) -> str:
        return self.dtype

    def get_shape(self) -> list[int]:
        return list(self.shape)

    def __getitem__(self, index: Any) -> torch.Tensor:
        whole = self.read()
        part = whole[index]
        return part if part.numel() == whole.numel() else part.clone()  # a view would keep all of it


def _header(pieces: Pieces, name: str) -> tuple[dict[str, _Place], dict[str, str] | None]:
    """Where the tensors stand, in the order in which they do, and what else the header says."""
    size = int.from_bytes(pieces.read(0, min(8, pieces.size)), "little")
    if pieces.size < 8 or size > min(MAX_HEADER, pieces.size - 8):
        raise SafetensorError(f"Error while reading {name}: it has no header, or one that is too large")
    header = strictjson.loads(bytes(pieces.read(8, 8 + size)), name)
    try:
        if not isinstance(header, dict):
            raise ValueError("the header is no JSON object")
        metadata = _metadata(header.pop("__metadata__", None))
        places = {tensor: _placed(tensor, one, 8 + size) for tensor, one in header.items()}
    except ValueError as error:
        raise SafetensorError(f"Error while reading {name}: {error}") from error
    places = dict(sorted(places.items(), key=lambda item: (item[1].start, item[1].stop, item[0])))
    end = 8 + size
    for tensor, place in places.items():
        if place.start != end:
            raise SafetensorError(f"Error while reading {name}: {tensor!r} lies over another tensor, or there is a gap before it")
        end = place.stop
    if end != pieces.size:
        raise SafetensorError(f"Error while reading {name}: its tensors end at byte {end} of {pieces.size}")
    return places, metadata


def _metadata(value: Json) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError("its metadata are not texts by name")
    return {key: str(text) for key, text in value.items()}


def _placed(name: str, value: Json, base: int) -> _Place:
    """The tensor that the header calls ``name``; its bytes are counted from ``base`` on. Raises ValueError."""
    if not isinstance(value, dict) or not {"dtype", "shape", "data_offsets"} <= value.keys():
        raise ValueError(f"{name!r} has no dtype, shape or data_offsets")
    dtype, shape, offsets = value["dtype"], _counts(value["shape"]), _counts(value["data_offsets"])
    if not isinstance(dtype, str) or shape is None or offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{name!r} has a dtype, shape or data_offsets that are none")
    place = _Place(dtype, shape, base + offsets[0], base + offsets[1])
    known, elements = _as_torch(name, place)
    if prod(elements) * known.itemsize != place.stop - place.start:
        raise ValueError(f"{name!r} has another number of bytes than its shape and dtype take")
    return place


def _as_torch(name: str, place: _Place) -> tuple[torch.dtype, tuple[int, ...]]:
    """The dtype and shape of the tensor in torch. Raises ValueError."""
    dtype, shape = getattr(torch, _DTYPES.get(place.dtype, ""), None), place.shape
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{name!r} is of a dtype that this torch does not have: {place.dtype}")
    if place.dtype in _PACKED:
        if not shape or shape[-1] % 2:
            raise ValueError(f"{name!r} has an odd number of {place.dtype}, of which two make a byte")
        shape = (*shape[:-1], shape[-1] // 2)
    return dtype, shape


def _counts(value: Json) -> tuple[int, ...] | None:
    """A list of whole numbers from 0 on; None if it is none."""
    if not isinstance(value, list):
        return None
    numbers = tuple(item for item in value if isinstance(item, int) and not isinstance(item, bool) and item >= 0)
    return numbers if len(numbers) == len(value) else None
