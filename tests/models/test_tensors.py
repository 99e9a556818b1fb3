"""The same tensors and metadata are the same bytes, whatever order the library writes in."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open

from safeflux.models.tensors import save_tensors

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
