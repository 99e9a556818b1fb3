from __future__ import annotations

from pathlib import Path

import pytest
from planned import write_policy

from safeflux.policy import Policy


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    """A policy whose base model stands beside it."""
    return write_policy(tmp_path)
