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
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The library of SoftHSM, set to a token with keys (``softhsm.py``); skips, and says why, where there is none."""
    from softhsm import make

    with pytest.MonkeyPatch.context() as patch:
        yield make(tmp_path_factory.mktemp("softhsm"), patch)
