"""Nothing is loaded but what was verified, whoever else can write to the directory."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from loading import copied, load, weights, zero
from safetensors.torch import load_file

from safeflux.errors import TrustError
from safeflux_signing import copies

pytestmark = pytest.mark.usefixtures("way")
loading = importlib.import_module("safeflux.load")


@pytest.fixture
def release(tiny_signed: Path, tmp_path: Path) -> Path:
    return copied(tiny_signed, tmp_path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What diffusers was asked to load, instead of loading it."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(FluxPipeline, "from_pretrained", lambda directory, **options: calls.append({"directory": directory, **options}))
    return calls


@pytest.fixture
def after_the_check(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Have something done at the moment between the check and the loading."""

    def arrange(happens: Callable[[], object]) -> None:
        check = loading.verify

        def late(*arguments: Any) -> Any:
            verified = check(*arguments)
            happens()
            return verified

        monkeypatch.setattr(loading, "verify", late)

    return arrange


def test_what_is_loaded_is_what_stock_diffusers_loads_and_stays_so(release: Path, tmp_path: Path) -> None:
    """Also when somebody writes to the files afterwards, which stock diffusers, mapping them, lets into the model."""
    mine, stock = load(release), FluxPipeline.from_pretrained(release)
    for part in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        expected = weights(getattr(stock, part))
        assert weights(getattr(mine, part)).keys() == expected.keys()
        for file in (release / part).glob("*.safetensors"):
            zero(file)
        assert all(torch.equal(value, expected[name]) for name, value in weights(getattr(mine, part)).items())
    assert any(not torch.equal(value, expected[name]) for name, value in weights(stock.text_encoder_2).items()), "a write would have shown"
    assert mine.tokenizer("a cat").input_ids == stock.tokenizer("a cat").input_ids
    mine.save_pretrained(tmp_path / "again")
    assert {path.parent.name for path in (tmp_path / "again").glob("*/*")} >= {"transformer", "tokenizer_2", "scheduler"}


@pytest.mark.parametrize("how", ["written over", "another file under the name", "a link in its place"])
@pytest.mark.parametrize("place", ["transformer", "text_encoder_2"])
def test_weights_exchanged_after_the_check_are_not_loaded(
    release: Path, after_the_check: Callable[[Callable[[], object]], None], place: str, how: str
) -> None:
    target = sorted((release / place).glob("*.safetensors"))[0]

    def swap() -> None:
        if how == "written over":
            return zero(target)
        other = Path(shutil.copy(target, release.parent / "evil.safetensors"))
        zero(other)
        target.unlink()
        return target.symlink_to(other) if "link" in how else shutil.copy(other, target) and None

    after_the_check(swap)
    with pytest.raises(TrustError, match="unreadable" if "link" in how else "changed after it had been checked") as caught:
        load(release)
    assert target.name in str(caught.value)


def older(name: str) -> str:
    """A weight of CLIP by one name, whichever version of transformers named it."""
    return name.removeprefix("text_model.")


@pytest.mark.parametrize("place", ["transformer", "vae", "text_encoder", "text_encoder_2"])
def test_weights_written_over_while_they_are_read_are_not_loaded(
    release: Path, way: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After their file was opened and found to be what was signed, and before the library has read the first of them."""
    target = sorted((release / place).glob("*.safetensors"))[0]
    expected, opening = {name: value.clone() for name, value in load_file(target).items()}, loading._Opening._open

    def opened(self: Any, entry: Any, *arguments: Any, **named: Any) -> Any:
        file = opening(self, entry, *arguments, **named)
        if entry.name == target.relative_to(release).as_posix():
            zero(target)
        return file

    monkeypatch.setattr(loading._Opening, "_open", opened)
    if way == "in pieces":
        with pytest.raises(TrustError, match=rf"{target.name}: the content was changed after it had been checked \[file-changed\]"):
            load(release)
    else:
        found = {older(name): value for name, value in weights(getattr(load(release), place)).items()}
        assert all(torch.equal(found[older(name)], value) for name, value in expected.items())
    assert not any(value.any() for value in load_file(target).values()), "it was written over"


def test_a_small_file_exchanged_after_the_check_is_not_loaded(
    release: Path, after_the_check: Callable[[Callable[[], object]], None], asked: list[dict[str, Any]]
) -> None:
    after_the_check(lambda: (release / "model_index.json").write_text(json.dumps({"_class_name": "Evil"})))
    with pytest.raises(TrustError, match=r"model_index\.json: the content was changed"):
        load(release)
    assert asked == []


def test_a_directory_exchanged_after_the_check_is_not_looked_at(
    release: Path, after_the_check: Callable[[Callable[[], object]], None]
) -> None:
    def swap() -> None:
        release.rename(release.parent / "good")
        release.mkdir()

    expected = weights(FluxTransformer2DModel.from_pretrained(release / "transformer"))
    after_the_check(swap)
    assert all(torch.equal(value, expected[name]) for name, value in weights(load(release).transformer).items())


def test_diffusers_sees_neither_the_directory_nor_code_nor_the_network(
    tiny_signed: Path, asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    def look(directory: str, **options: Any) -> Any:
        seen = Path(directory)
        assert seen.stat().st_mode & 0o077 == 0
        assert seen != tiny_signed
        assert {path.suffix for path in seen.rglob("*") if path.is_file()} <= {".safetensors", ".json", ".txt", ".model", ".jinja"}
        assert not any(path.stat().st_size for path in seen.rglob("*.safetensors"))
        raise KeyboardInterrupt(directory, options)

    FluxPipeline.from_pretrained = look  # put back by ``asked``
    with pytest.raises(KeyboardInterrupt) as caught:
        load(tiny_signed, variant="fp16")
    directory, options = caught.value.args
    assert options == {"use_safetensors": True, "local_files_only": True, "variant": "fp16"}
    assert not Path(directory).exists()


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (
            lambda d: zero(d / "vae" / "diffusion_pytorch_model.safetensors"),
            r"diffusion_pytorch_model\.safetensors: the content was changed",
        ),
        (lambda d: (d / "vae" / "pipeline.py").write_text("import os"), r"pipeline\.py"),
        (lambda d: (d / "model_index.json").unlink(), r"model_index\.json"),
        (lambda d: (d / "model.sig").unlink(), r"model\.sig"),
    ],
    ids=["changed", "added", "removed", "unsigned"],
)
def test_refuses_and_names_what_is_wrong_before_any_weight_is_read(
    release: Path, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, spoil: Any, names: str
) -> None:
    spoil(release)
    for name in ("sealed", "content", "Pieces"):
        monkeypatch.setattr(copies, name, lambda *_: pytest.fail("a file was read for loading"))
    with pytest.raises(TrustError, match=names):
        load(release)
    assert asked == []
