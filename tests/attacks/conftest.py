from __future__ import annotations

from pathlib import Path

import pytest
from shaken import shaken

from safeflux.models.flux1 import Flux1


@pytest.fixture(scope="session")
def base(tiny: Path) -> Flux1:
    return Flux1.load(tiny)


@pytest.fixture(scope="session")
def erased(tiny: Path) -> Flux1:
    return shaken(tiny)
