"""The exported directory is the pipeline and nothing else: the baked transformer, and the base's bytes."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from safeflux.errors import StageError
from safeflux.exporters.diffusers import diffusers
from safeflux.files import tree

INDEX = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": "0.36.0",
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderTiny"],
    "image_encoder": [None, None],
    "is_distilled": True,
}
PARTS = ("transformer/config.json", "transformer/model.safetensors", "model_index.json")
REST = ("vae/config.json", "vae/deep/er.txt", "LICENSE.md", "generation_config.json")


def write(directory: Path, names: tuple[str, ...], text: str) -> Path:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(f"{text} {name}" if name != "model_index.json" else json.dumps(INDEX | {"_name_or_path": text}))
    return directory


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write(tmp_path / "base", (*PARTS, *REST), "base")


@pytest.fixture
def baked(tmp_path: Path) -> Path:
    return write(tmp_path / "baked", PARTS, "baked")


def test_transformer_and_index_are_the_baked_ones_and_every_other_byte_the_bases(baked: Path, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    written = diffusers(baked, out, base=base)
    of_base = {name: digest for name, digest in tree(base).items() if name in REST}
    assert tree(out) == tree(baked) | of_base
    assert sorted(p.relative_to(out).as_posix() for p in written) == sorted(tree(out))


def test_copies_are_files_of_their_own(baked: Path, base: Path, tmp_path: Path) -> None:
    (base / "vae" / "linked.txt").symlink_to(base / "vae" / "config.json")  # as in the cache of a model hub
    for file in diffusers(baked, tmp_path / "out", base=base):
        assert not file.is_symlink()
        assert file.stat().st_nlink == 1


def test_leaves_out_what_is_not_the_pipeline(baked: Path, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    more = ("flux1-schnell.safetensors", "README.md", ".cache/x", "spare/model.safetensors", "image_encoder/w", "vae/old.bin")
    write(base, (*more, "transformer/unerased.safetensors"), "the whole unerased model")
    with caplog.at_level(logging.WARNING):
        diffusers(baked, tmp_path / "out", base=base)
    assert sorted(tree(tmp_path / "out")) == sorted((*PARTS, *REST))
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
def test_refuses_what_is_no_pipeline(baked: Path, base: Path, tmp_path: Path, index: str | None, says: str) -> None:
    (baked / "model_index.json").unlink()
    if index is not None:
        (baked / "model_index.json").write_text(index)
    with pytest.raises(StageError, match=says):
        diffusers(baked, tmp_path / "out", base=base)
