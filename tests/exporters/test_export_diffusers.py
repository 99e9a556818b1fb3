"""The exported directory is the pipeline and nothing else, byte for byte."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from safeflux.errors import StageError
from safeflux.exporters.diffusers import diffusers
from safeflux.workspace import tree

INDEX = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": "0.36.0",
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderTiny"],
    "image_encoder": [None, None],
    "is_distilled": True,
}


@pytest.fixture
def baked(tmp_path: Path) -> Path:
    directory = tmp_path / "baked"
    for name in (
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/deep/er.txt",
        "LICENSE.md",
    ):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(name.encode() + os.urandom(9))
    (directory / "model_index.json").write_text(json.dumps(INDEX))
    return directory


def test_copies_every_byte_and_says_what_it_wrote(baked: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    written = diffusers(baked, out)
    assert tree(out) == tree(baked)
    assert sorted(p.relative_to(out).as_posix() for p in written) == sorted(tree(out))


def test_copies_are_files_of_their_own(baked: Path, tmp_path: Path) -> None:
    (baked / "vae" / "linked.txt").symlink_to(baked / "vae" / "config.json")  # as in the cache of a model hub
    for file in diffusers(baked, tmp_path / "out"):
        assert not file.is_symlink()
        assert file.stat().st_nlink == 1


def test_leaves_out_what_is_not_the_pipeline(baked: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wanted = set(tree(baked))
    for name in ("flux1-schnell.safetensors", "README.md", ".cache/x", "spare/model.safetensors", "image_encoder/w", "vae/old.bin"):
        (baked / name).parent.mkdir(exist_ok=True)
        (baked / name).write_text("the whole unerased model")
    with caplog.at_level(logging.WARNING):
        diffusers(baked, tmp_path / "out")
    assert set(tree(tmp_path / "out")) == wanted
    assert "old.bin" in caplog.text


@pytest.mark.parametrize(
    ("index", "says"),
    [
        (None, "not the index"),
        ("{", "not the index"),
        ("[]", "not the index"),
        ('{"vae": ["diffusers", "X"], "tokenizer": ["transformers", "Y"]}', "tokenizer"),
        ('{"../vae": ["diffusers", "X"]}', "beside the index"),
        ('{"..": ["diffusers", "X"]}', "beside the index"),
    ],
)
def test_refuses_what_is_no_pipeline(baked: Path, tmp_path: Path, index: str | None, says: str) -> None:
    (baked / "model_index.json").unlink()
    if index is not None:
        (baked / "model_index.json").write_text(index)
    with pytest.raises(StageError, match=says):
        diffusers(baked, tmp_path / "out")
