"""The same tensors and metadata are the same bytes, whatever order the library writes in."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from safeflux.models.tensors import header, save_tensors, stored, stream_tensors

METADATA = {"format": "pt", 'é\n"quoted"': "ü\t\\ \x1f \u2028", "made": "here", "by": "hand"}


def test_metadata_of_several_items_comes_out_the_same(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(6.0).reshape(2, 3).T, "a": torch.zeros(5, dtype=torch.bool)}
    written = set()
    for number in range(40):  # the library alone orders four items in 24 ways
        save_tensors(tensors, tmp_path / str(number), dict(reversed(METADATA.items())) if number % 2 else METADATA)
        written.add((tmp_path / str(number)).read_bytes())
    assert len(written) == 1
    with safe_open(tmp_path / "0", "pt") as file:
        assert file.metadata() == METADATA
        assert torch.equal(file.get_tensor("b"), tensors["b"])
        assert torch.equal(file.get_tensor("a"), tensors["a"])


def test_a_file_needs_no_metadata(tmp_path: Path) -> None:
    save_tensors({"a": torch.ones(2)}, tmp_path / "none")
    with safe_open(tmp_path / "none", "pt") as file:
        assert file.metadata() is None


def test_what_is_streamed_is_what_the_library_would_write(tmp_path: Path) -> None:
    small = torch.randn(2, 2).to(torch.float8_e4m3fn)
    tensors = {"b": torch.randn(3, 5), "c.weight": torch.randn(7).bfloat16(), "a": small, "d": torch.zeros(0, 4)}
    (tmp_path / "from").mkdir()
    save_file(tensors, tmp_path / "from" / "x.safetensors", metadata={"format": "pt"})
    parts = stored(tmp_path / "from")
    assert {name: (one.shape, one.dtype) for name, one in parts.items()} == {n: (tuple(t.shape), t.dtype) for n, t in tensors.items()}
    stream_tensors(dict(reversed(parts.items())), tmp_path / "streamed", {"format": "pt"})
    assert (tmp_path / "streamed").read_bytes() == (tmp_path / "from" / "x.safetensors").read_bytes()
    assert {name: tuple(t.shape) for name, t in load_file(tmp_path / "streamed").items()} == header(tmp_path / "streamed")
