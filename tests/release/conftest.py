"""Releases made in milliseconds, with what needs torch replaced (``release_fakes.py``)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import release_fakes as fakes

from safeflux.release import release
from safeflux_signing import keys

EPOCH = "1700000000"


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    monkeypatch.setattr(fakes, "hits", 1)
    fakes.calls.clear()
    with fakes.faked():
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy file beside its base model and its key, and in ``run`` a release made from it in one go."""
    directory = tmp_path_factory.mktemp("home")
    fakes.write_base(directory / "base")
    keys.new(directory / "publisher.key", None)
    (directory / "policy.yaml").write_text(fakes.POLICY)
    with pytest.MonkeyPatch.context() as patch, fakes.faked():
        patch.setenv("SOURCE_DATE_EPOCH", EPOCH)
        release(directory / "policy.yaml", out=directory / "run")
    return directory


@pytest.fixture
def policy(home: Path, tmp_path: Path) -> Path:
    """The same policy, base model and key elsewhere, and nothing released yet."""
    shutil.copytree(home, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("run"))
    return tmp_path / "policy.yaml"
