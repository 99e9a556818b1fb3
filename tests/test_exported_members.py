"""What ``import safeflux`` offers is there, and nothing else pretends to be."""

from __future__ import annotations

import importlib

import pytest

import safeflux


def test_every_exported_name_is_the_thing_itself_and_not_a_module() -> None:
    for name, where in safeflux._WHERE.items():
        assert getattr(safeflux, name) is getattr(importlib.import_module(where), name)
    assert sorted(safeflux._WHERE) == sorted(safeflux.__all__)
    assert callable(safeflux.release)
    assert callable(safeflux.load)


def test_version_is_the_installed_one_and_other_names_are_refused() -> None:
    assert safeflux.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="erase"):
        safeflux.erase  # noqa: B018
