"""Nothing is loaded but what was verified, whoever else can write to the directory."""

from __future__ import annotations

import gc
import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from safetensors.torch import load_file, save_file
from tiny import make_signed

import safeflux
from safeflux.errors import TrustError
from safeflux_signing import copies, keys

module = importlib.import_module("safeflux.load")


@pytest.fixture(scope="module")
def signed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_signed(tiny, tmp_path_factory.mktemp("signed"))


@pytest.fixture
def release(signed: Path, tmp_path: Path) -> Path:
    """A copy to write to."""
    return Path(shutil.copytree(signed.parent, tmp_path / "all")) / "release"


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
        check = module.verify

        def late(*arguments: Any) -> Any:
            verified = check(*arguments)
            happens()
            return verified

        monkeypatch.setattr(module, "verify", late)

    return arrange


def load(release: Path, **options: Any) -> FluxPipeline:
    return safeflux.load(release, trust=release.parent / "publisher.pub", **options)


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def zero(file: Path) -> None:
    """Write other weights over ``file``, in place."""
    data = file.read_bytes()
    save_file({name: torch.zeros_like(value) for name, value in load_file(file).items()}, file.with_name("zero"), {"format": "pt"})
    zeros = file.with_name("zero").read_bytes()
    file.with_name("zero").unlink()
    assert len(zeros) == len(data)
    assert zeros != data
    with file.open("r+b") as stream:
        stream.write(zeros)


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


def held() -> set[str]:
    """Memory files that are mapped, and so take memory, although no descriptor is left."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return {line for line in maps if "memfd:" in line and ".safetensors" in line}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells what is mapped")
@pytest.mark.parametrize("converted", [True, False])
def test_one_shard_at_a_time_is_held_beside_the_model(signed: Path, monkeypatch: pytest.MonkeyPatch, converted: bool) -> None:
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
    pipeline = load(signed, **({"dtype": torch.bfloat16} if converted else {}))
    assert pipeline.transformer.dtype == (torch.bfloat16 if converted else torch.float32)
    assert beside_the_model() == set()
    files = {path.relative_to(signed).as_posix() for path in signed.glob("*/*.safetensors")}
    assert set(opened) == files
    assert len(opened) < 1.5 * len(files), "the shards of the text encoder are read one after the other, whatever threads there are"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the copy is a file without a name")
def test_a_copy_can_be_changed_by_nobody(signed: Path) -> None:
    from safeflux_signing import tree
    from safeflux_signing.verify import verify

    entries = verify(signed, [keys.load_public(signed.parent / "publisher.pub")]).entries
    entry = next(entry for entry in entries if entry.name.startswith("transformer/") and entry.name.endswith(".safetensors"))
    with tree.opened(signed) as root, copies.sealed(root, entry) as path:
        assert Path(path).read_bytes() == (signed / entry.name).read_bytes()
        for flags in (os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_TRUNC):
            with pytest.raises(PermissionError):
                os.write(os.open(path, flags), b"x")


@pytest.mark.parametrize("way", ["written over", "another file under the name", "a link in its place"])
@pytest.mark.parametrize("place", ["transformer", "text_encoder_2"])
def test_weights_exchanged_after_the_check_are_not_loaded(
    release: Path, after_the_check: Callable[[Callable[[], object]], None], place: str, way: str
) -> None:
    target = sorted((release / place).glob("*.safetensors"))[0]

    def swap() -> None:
        if way == "written over":
            return zero(target)
        other = Path(shutil.copy(target, release.parent / "evil.safetensors"))
        zero(other)
        target.unlink()
        return target.symlink_to(other) if "link" in way else shutil.copy(other, target) and None

    after_the_check(swap)
    with pytest.raises(TrustError, match="unreadable" if "link" in way else "changed after it had been checked") as caught:
        load(release)
    assert target.name in str(caught.value)


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


def test_diffusers_sees_neither_the_directory_nor_code_nor_the_network(signed: Path, asked: list[dict[str, Any]], tmp_path: Path) -> None:
    def look(directory: str, **options: Any) -> Any:
        seen = Path(directory)
        assert seen.stat().st_mode & 0o077 == 0
        assert seen != signed
        assert {path.suffix for path in seen.rglob("*") if path.is_file()} <= {".safetensors", ".json", ".txt", ".model", ".jinja"}
        assert not any(path.stat().st_size for path in seen.rglob("*.safetensors"))
        raise KeyboardInterrupt(directory, options)

    FluxPipeline.from_pretrained = look  # put back by ``asked``
    with pytest.raises(KeyboardInterrupt) as caught:
        load(signed, variant="fp16")
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
    for name in ("sealed", "content"):
        monkeypatch.setattr(copies, name, lambda *_: pytest.fail("a file was read for loading"))
    with pytest.raises(TrustError, match=names):
        load(release)
    assert asked == []
