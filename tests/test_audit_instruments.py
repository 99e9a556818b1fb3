from __future__ import annotations

from pathlib import Path

import pytest

from safeflux.audit_instruments import open_bench
from safeflux.errors import StageError
from safeflux.instruments import Embedder
from safeflux.policy import load_policy

DEMO = Path(__file__).parents[1] / "policies" / "demo.yaml"


def test_an_embedder_that_cannot_be_had_is_asked_for_once() -> None:
    """Several metrics want it; a hub that does not answer costs its patience once."""
    asked = []

    def load() -> Embedder:
        asked.append(1)
        raise StageError("no such model")

    bench = open_bench(load_policy(DEMO), load)
    for _ in range(3):
        with pytest.raises(StageError, match="no such model"):
            bench.embed()
    assert len(asked) == 1
