"""What stands in for the library's open file says the same, hands out the same, and refuses the same."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from safeflux.weights import _DTYPES, Weights
from safeflux_signing import tree
from safeflux_signing.copies import Pieces
from safeflux_signing.errors import SigningError, TamperedError
from safeflux_signing.manifest import Entry

FORMATS = sorted({getattr(torch, name) for name in _DTYPES.values() if hasattr(torch, name)}, key=str)


def stood_in(path: Path, failed: list[Exception] | None = None, **options: Any) -> Weights:
    with tree.opened(path.parent) as root:
        pieces = Pieces(root, Entry(path.name, hashlib.sha256(path.read_bytes()).hexdigest()))
    return Weights(pieces, path.name, [] if failed is None else failed, options.pop("framework", "pt"), **options)


def drawn(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Random bits as numbers of ``dtype``."""
    width = dtype.itemsize
    raw = torch.randint(0, 2 if dtype is torch.bool else 256, (*shape[:-1], shape[-1] * width), dtype=torch.uint8)
    return raw.view(dtype)


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """To the bit, also where numbers are none."""
    if (one.dtype, one.shape, one.device) != (other.dtype, other.shape, other.device):
        return False
    return one.numel() == 0 or torch.equal(*(value.contiguous().reshape(-1).view(torch.uint8) for value in (one, other)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Tensors of every format, and of every kind of shape."""
    torch.manual_seed(0)
    tensors = {str(dtype): drawn(dtype, 3, 4) for dtype in FORMATS}
    tensors |= {"scalar": torch.tensor(2.5), "none": torch.zeros(0, 3), "long": torch.randn(5, 2, 3), "é.0": torch.ones(1).bfloat16()}
    save_file(tensors, tmp_path / "x.safetensors", {"format": "pt", "é": "ü\n"})
    return tmp_path / "x.safetensors"


def test_it_says_and_hands_out_what_the_library_does(file: Path) -> None:
    with safe_open(file, "pt") as theirs, stood_in(file) as mine:
        assert (mine.keys(), mine.offset_keys(), mine.metadata()) == (theirs.keys(), theirs.offset_keys(), theirs.metadata())
        assert len(mine.keys()) == len(FORMATS) + 4 > 20
        for name in theirs.keys():  # noqa: SIM118
            one, other = mine.get_slice(name), theirs.get_slice(name)
            assert (one.get_shape(), one.get_dtype()) == (other.get_shape(), other.get_dtype())
            assert same(mine.get_tensor(name), theirs.get_tensor(name))
            if one.get_dtype() != "F4":  # of which the library slices none
                assert same(one[...], other[...])
        for index in (0, -1, (slice(1, 3),), (..., 1), (slice(None), 1, slice(0, 2))):
            part = mine.get_slice("long")[index]
            assert same(part, theirs.get_slice("long")[index])
            assert part.untyped_storage().nbytes() == part.nbytes, "what is not wanted is not kept"
        every = mine.get_tensors()
    assert list(every) == list(load_file(file))
    assert all(same(every[name], value) for name, value in load_file(file).items())


def test_what_is_handed_out_can_be_written_to_and_nothing_else_changes(file: Path) -> None:
    with stood_in(file) as mine:
        before = mine.get_tensor("long").clone()
        mine.get_tensor("long").fill_(1)
        assert torch.equal(mine.get_tensor("long"), before)


def test_the_device_is_the_one_that_was_asked_for(file: Path) -> None:
    with stood_in(file, device="meta", backend="mmap") as mine:
        assert mine.get_tensor("long").device.type == mine.get_slice("long")[0].device.type == "meta"


def test_an_unknown_name_and_a_closed_file_are_the_library_s_errors(file: Path) -> None:
    for opened in (safe_open(file, "pt"), stood_in(file)):
        for ask in (opened.get_tensor, opened.get_slice):
            with pytest.raises(SafetensorError, match="does not contain tensor nothing"):
                ask("nothing")
        part = opened.get_slice("long")
        opened.__exit__(None, None, None)
        with pytest.raises(SafetensorError, match="File is closed"):
            opened.get_tensor("long")
        if isinstance(opened, Weights):
            with pytest.raises(SafetensorError, match="File is closed"):
                part[...]
    with pytest.raises(SafetensorError, match="for torch only"):
        stood_in(file, framework="np")


def test_a_tensor_that_was_written_over_is_refused_and_noted(file: Path) -> None:
    failed: list[Exception] = []
    with stood_in(file, failed) as mine:
        file.write_bytes(file.read_bytes()[:-1] + b"\x00")
        for ask in (lambda: mine.get_tensor("long"), lambda: mine.get_slice("long")[0], mine.get_tensors):
            with pytest.raises(TamperedError, match=r"x\.safetensors: the content was changed"):
                ask()
    assert [type(error) for error in failed] == [TamperedError] * 3


def one(start: int = 0, stop: int = 2, shape: object = (2,), dtype: object = "U8", **more: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop], **more}


def written(header: object, body: bytes = b"12", size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + body


BAD = {
    "nothing": b"",
    "too short for a size": b"1234567",
    "no header": bytes(8),
    "larger than the file": written({"x": one()}, size=200),
    "larger than may be": written({"x": one()}, size=100_000_001),
    "no number": written({"x": one()}, size=2**64 - 1),
    "no JSON": written(b"{"),
    "no text": written(b'{"\xff": 1}'),
    "a list": written([]),
    "no tensor": written({"x": [1]}),
    "no dtype": written({"x": {"shape": [2], "data_offsets": [0, 2]}}),
    "an unknown dtype": written({"x": one(dtype="U7")}),
    "a dtype that is a number": written({"x": one(dtype=8)}),
    "another size than the shape": written({"x": one(shape=[3])}),
    "another size than the dtype": written({"x": one(dtype="F32")}),
    "a negative shape": written({"x": one(shape=[-1, -2])}),
    "a shape of truth": written({"x": one(0, 1, shape=[True])}, b"1"),
    "a shape of fractions": written({"x": one(shape=[2.0])}),
    "a shape that is a number": written({"x": one(shape=2)}),
    "half a byte": written({"x": one(0, 1, shape=[1], dtype="F4")}, b"1"),
    "one offset": written({"x": {"dtype": "U8", "shape": [2], "data_offsets": [2]}}),
    "offsets backwards": written({"x": one(2, 0)}),
    "an offset before the start": written({"x": one(-2, 0)}),
    "beyond the end": written({"x": one()}, b"1"),
    "more than the tensors": written({"x": one()}, b"123"),
    "tensors over each other": written({"x": one(), "y": one(1, 3)}, b"123"),
    "twice the same bytes": written({"x": one(), "y": one()}),
    "a gap": written({"x": one(), "y": one(3, 5)}, b"12345"),
    "a gap at the start": written({"x": one(1, 3)}, b"123"),
    "metadata of numbers": written({"__metadata__": {"a": 1}, "x": one()}),
    "metadata that are a list": written({"__metadata__": ["a"], "x": one()}),
}
GOOD = {
    "plain": written({"x": one()}),
    "spaces after": written(json.dumps({"x": one()}).encode() + b"   "),
    "empty metadata": written({"__metadata__": {}, "x": one()}),
    "metadata of nothing": written({"__metadata__": None, "x": one()}),
    "more fields": written({"x": one(more=1)}),
    "no tensors": written({}, b""),
    "empty tensors": written({"y": one(2, 2, shape=[0]), "x": one(), "z": one(0, 0, shape=[0, 5])}),
}


def told(open: Callable[[], Any]) -> object:
    """All that can be had of a file; None if it is refused."""
    try:
        with open() as file:
            tensors = {name: (value.dtype, value.shape, value.tolist()) for name, value in file.get_tensors().items() if numeric(value)}
            return file.keys(), file.offset_keys(), file.metadata(), repr(tensors)
    except (SafetensorError, SigningError):
        return None


def numeric(tensor: torch.Tensor) -> bool:
    """Whether torch can print its numbers."""
    return tensor.dtype.itemsize > 1 or tensor.dtype in (torch.uint8, torch.int8, torch.bool)


@pytest.mark.parametrize("what", [*BAD, *GOOD])
def test_a_header_is_refused_if_and_only_if_the_library_refuses_it(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes((BAD | GOOD)[what])
    mine = told(lambda: stood_in(path))
    assert (mine is not None) == (what in GOOD)
    assert mine == told(lambda: safe_open(path, "pt"))


def test_a_name_that_stands_twice_is_refused_where_the_library_takes_the_last(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(written(b'{"x":%b,"x":%b}' % (json.dumps(one(dtype="I8")).encode(), json.dumps(one()).encode())))
    with pytest.raises(SigningError, match="json-duplicate-key"):
        stood_in(path)


def test_a_header_with_changes_is_read_as_the_library_reads_it_or_refused(file: Path) -> None:
    good, rng, read = file.read_bytes(), random.Random(0), 0
    size = int.from_bytes(good[:8], "little")
    for _ in range(400):
        data = bytearray(good)
        for _ in range(rng.choice((1, 1, 2, 5))):
            data[rng.randrange(8 + size)] = rng.choice(b'0123456789[]{},:"FUIB ') if rng.random() < 0.8 else rng.randrange(256)
        file.write_bytes(data)
        if (mine := told(lambda: stood_in(file))) is not None:
            assert mine == told(lambda: safe_open(file, "pt"))
            read += 1
    assert read > 20
