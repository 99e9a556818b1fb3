from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tiny random FLUX; read only."""
    from tiny import make_tiny

    return make_tiny(tmp_path_factory.mktemp("tiny"))
