"""Masks alone, and the base they belong to, are the release; with any other base, or for any other edit, they are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from test_bake import EDITS, random_mask

from safeflux.bake import bake
from safeflux.edits import load_edit, save_edit
from safeflux.errors import ModelError, StageError
from safeflux.exporters.delta import FILE, delta
from safeflux.exporters.diffusers import diffusers
from safeflux.files import tree
from safeflux.loaders.delta import delta as load
from safeflux_cli.main import run


@pytest.fixture(scope="module")
def baked(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("delta") / "baked"
    bake(tiny, random_mask(tiny, closed=0.2), out)
    return out


@pytest.fixture(scope="module")
def masks(baked: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    [file] = delta(baked, tmp_path_factory.mktemp("masks"), base=tiny)
    return file


def test_masks_and_base_are_the_release_byte_for_byte(masks: Path, baked: Path, tiny: Path, tmp_path: Path) -> None:
    diffusers(baked, tmp_path / "release", base=tiny)
    assert run(["bake", "--masks", str(masks), "--base", str(tiny), "--out", str(tmp_path / "again")]) == 0
    assert tree(tmp_path / "again") == tree(tmp_path / "release")
    assert masks.stat().st_size < 0.05 * sum(path.stat().st_size for path in baked.rglob("*.safetensors"))


def test_the_same_masks_come_back(masks: Path, tiny: Path) -> None:
    edit, back = random_mask(tiny, closed=0.2), load_edit(masks)
    assert type(back) is type(edit)
    assert back.keep.keys() == {name for name, keep in edit.keep.items() if not keep.all()}  # type: ignore[union-attr]
    assert all(torch.equal(keep, edit.keep[name]) for name, keep in back.keep.items())  # type: ignore[union-attr]


def test_it_loads_as_the_masked_model(masks: Path, baked: Path, tiny: Path) -> None:
    loaded = load(masks.parent, root=baked, base=tiny, device="cpu", dtype=torch.float32)
    assert loaded.exact
    assert loaded.model.draw(["a cat"], [1], steps=1).shape == (1, 32, 32, 3)
    with pytest.raises(ModelError, match="needs the base it belongs to"):
        load(masks.parent, root=baked, base=None, device="cpu", dtype=torch.float32)


def test_another_base_is_refused(masks: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(tiny, tmp_path / "other")
    (tmp_path / "other" / "generation_config.json").write_text(json.dumps({"height": 64}))
    assert run(["bake", "--masks", str(masks), "--base", str(tmp_path / "other"), "--out", str(tmp_path / "out")]) == 3
    assert "belongs to a base with digest" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_holds_no_masks_is_refused(masks: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_edit(EDITS["weights"], tmp_path / "weights.safetensors", {"base": "0" * 64})
    save_edit(load_edit(masks), tmp_path / "nameless.safetensors")
    for name, says in (("weights", "of kind Weights; wanted masks"), ("nameless", "does not say which base")):
        command = ["bake", "--masks", str(tmp_path / f"{name}.safetensors"), "--base", str(tiny), "--out", str(tmp_path / "out")]
        assert run(command) == 3
        assert says in capsys.readouterr().err


def test_nothing_is_written_over(masks: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    assert run(["bake", "--masks", str(masks), "--base", str(tiny), "--out", str(tmp_path)]) == 3
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_weights_that_no_mask_made_have_no_delta(tiny: Path, tmp_path: Path) -> None:
    bake(tiny, EDITS["low rank"], tmp_path / "baked")
    with pytest.raises(ModelError, match="not the base's under any mask"):
        delta(tmp_path / "baked", tmp_path, base=tiny)
    with pytest.raises(StageError, match="is the release itself"):
        delta(tiny, tmp_path, base=tiny)
    assert not (tmp_path / FILE).exists()
