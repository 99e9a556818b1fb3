"""Nothing is loaded that was not verified."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import safeflux
from safeflux.errors import TrustError
from safeflux_signing import keys
from safeflux_signing.sign import sign


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, dict[str, Any]]]:
    """What diffusers was asked to load."""
    asked: list[tuple[Path, dict[str, Any]]] = []

    def from_pretrained(directory: Path, **options: Any) -> str:
        asked.append((directory, options))
        return "a pipeline"

    module = ModuleType("diffusers")
    module.FluxPipeline = SimpleNamespace(from_pretrained=from_pretrained)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "diffusers", module)
    return asked


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    """A signed directory ``release`` beside the keys ``publisher`` and ``other``."""
    for name in ("publisher", "other"):
        keys.new(tmp_path / f"{name}.key", None)
    (tmp_path / "release" / "vae").mkdir(parents=True)
    (tmp_path / "release" / "model_index.json").write_text("{}")
    (tmp_path / "release" / "vae" / "weights.safetensors").write_text("weights")
    sign(tmp_path / "release", keys.load_private(tmp_path / "publisher.key"), release_id="tiny-1.0", sequence=1)
    return tmp_path / "release"


def test_loads_what_was_verified_without_pickles_network_or_code(signed: Path, loaded: list[tuple[Path, dict[str, Any]]]) -> None:
    pipeline = safeflux.load(signed, trust=signed.parent / "publisher.pub", torch_dtype="bfloat16")
    assert pipeline == "a pipeline"
    assert loaded == [(signed, {"use_safetensors": True, "local_files_only": True, "torch_dtype": "bfloat16"})]


def test_one_of_several_trusted_keys_is_enough(signed: Path, loaded: list[tuple[Path, dict[str, Any]]]) -> None:
    safeflux.load(str(signed), trust=[signed.parent / "other.pub", str(signed.parent / "publisher.pub")])
    assert len(loaded) == 1


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (lambda d: (d / "vae" / "weights.safetensors").write_text("weightz"), "weights.safetensors"),
        (lambda d: (d / "vae" / "pipeline.py").write_text("import os"), "pipeline.py"),
        (lambda d: (d / "model_index.json").unlink(), "model_index.json"),
        (lambda d: (d / "model.sig").unlink(), "model.sig"),
    ],
    ids=["changed", "added", "removed", "unsigned"],
)
def test_refuses_and_names_what_is_wrong(signed: Path, loaded: list[tuple[Path, dict[str, Any]]], spoil: Any, names: str) -> None:
    spoil(signed)
    with pytest.raises(TrustError, match=names):
        safeflux.load(signed, trust=signed.parent / "publisher.pub")
    assert loaded == []


@pytest.mark.parametrize("trust", [["other.pub"], [], ["missing.pub"], ["publisher.key"]], ids=["other", "none", "missing", "private"])
def test_refuses_without_a_trusted_key(signed: Path, loaded: list[tuple[Path, dict[str, Any]]], trust: list[str]) -> None:
    with pytest.raises(TrustError, match="not loaded"):
        safeflux.load(signed, trust=[signed.parent / name for name in trust])
    assert loaded == []
