"""Tests run side by side, one process a core (pytest-xdist), so torch gets one thread in each of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
os.environ["HF_HUB_OFFLINE"] = "1"  # no test needs a hub; one that asked would wait for it where there is none
os.environ["SAFEFLUX_TRUST"] = "/nonexistent/trust.toml"  # no test goes by whom its user trusts

import pytest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tiny random FLUX; read only."""
    from tiny import make_tiny

    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_signed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, its larger parts in shards, signed by ``publisher.key`` beside it; read only."""
    from tiny import make_signed

    return make_signed(tiny, tmp_path_factory.mktemp("signed"))


@pytest.fixture(params=["sealed", "in pieces"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """How what is loaded is kept from changing: as on Linux, and as on a system that can seal no memory, such as macOS."""
    from safeflux_signing import copies

    way: str = request.param
    copies.can_seal.cache_clear()
    if way == "in pieces":
        for name in ("memfd_create", "preadv", "MFD_CLOEXEC", "MFD_ALLOW_SEALING"):
            monkeypatch.delattr(os, name, raising=False)
    elif not copies.can_seal():
        pytest.skip("this system can seal no memory")
    yield way
    copies.can_seal.cache_clear()


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The library of SoftHSM, set to a token with keys (``softhsm.py``); skips, and says why, where there is none."""
    from softhsm import make

    with pytest.MonkeyPatch.context() as patch:
        yield make(tmp_path_factory.mktemp("softhsm"), patch)
