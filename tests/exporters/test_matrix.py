"""Every line of docs/exports.md is what a run of it says."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from matrix import DOCUMENT, ROWS, Places, Row, document


@pytest.fixture(scope="module")
def places(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Places:
    return Places(tiny, tmp_path_factory.mktemp("matrix"))


def _marked(row: Row) -> object:
    return pytest.param(row, id=f"{row.layout}/{row.format}/{row.consumer}")


@pytest.mark.parametrize("row", [_marked(row) for row in ROWS])
def test_it_comes_out_as_the_document_says(row: Row, places: Places) -> None:
    if row.needs and not find_spec(row.needs):
        pytest.skip(f"needs {row.needs}")
    assert row.run(places) == row.says


def test_the_document_is_made_of_these_rows() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document()
