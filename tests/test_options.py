"""Options are read from source text, and are what the function really takes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from safeflux.errors import OptionError
from safeflux.options import options, presets, read, value
from safeflux.registry import BUILT_IN, Kind, _table, names

PLUGIN = """
from __future__ import annotations
from collections.abc import Callable, Sequence
from typing import Literal
import does_not_exist  # reading must not import

LIMIT = 5
Mode = Literal["a", "b"]

def attack(model, task, /, seed, *, needed: int, n: int = LIMIT, x: float = -1e-3, flag: bool = True, mode: Mode = "a",
           word: str | None = None, words: tuple[str, ...] = ("p", "q"), many: "list[int]" = [], pair: Sequence[float] = (1.0,),
           progress: Callable[[int], None] | None = None, fixed: tuple[int, int] = (1, 2), untyped=3, _hidden: int = 1):
    raise AssertionError("reading must not run it")
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose import fails, on the path."""
    package = tmp_path / "acme_options"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\nfrom .deep import attack as renamed\n", "utf-8")
    (package / "deep.py").write_text(PLUGIN, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    read.cache_clear()
    return package


def test_plain_keyword_only_arguments_with_a_default(plugin: Path) -> None:
    found = read("acme_options.deep:attack")
    text = {"type": "string"}
    assert {name: (option.schema, option.default) for name, option in found.items()} == {
        "n": ({"type": "integer"}, 5),
        "x": ({"type": "number"}, -0.001),
        "flag": ({"type": "boolean"}, True),
        "mode": ({"enum": ["a", "b"]}, "a"),
        "word": ({"anyOf": [text, {"type": "null"}]}, None),
        "words": ({"type": "array", "items": text}, ("p", "q")),
        "many": ({"type": "array", "items": {"type": "integer"}}, []),
        "pair": ({"type": "array", "items": {"type": "number"}}, (1.0,)),
    }
    assert "acme_options" not in sys.modules


def test_follows_a_name_to_where_it_is_written(plugin: Path) -> None:
    assert read("acme_options:renamed") == read("acme_options.deep:attack")


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("acme_options.deep:defence", "has no function defence"),
        ("acme_options.nothing:x", "source of acme_options.nothing cannot be found"),
        ("no_such_package_at_all:x", "cannot be found"),
        ("sys:exit", "only be read from a .py file"),
    ],
)
def test_says_what_it_cannot_read(plugin: Path, where: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        read(where)


@pytest.mark.parametrize(
    ("text", "words"), [("def attack(*, n: int = 2 ** 3): ...", r"line 1: the default of n is 2 \*\* 3"), ("def (", "cannot be read")]
)
def test_says_what_a_plugin_has_to_change(plugin: Path, text: str, words: str) -> None:
    (plugin / "deep.py").write_text(text, "utf-8")
    with pytest.raises(OptionError, match=words):
        read("acme_options.deep:attack")


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in BUILT_IN for name in names(kind)])
def test_every_built_in_can_be_read(kind: Kind, name: str) -> None:
    for option in options(kind, name).values():
        assert option.schema


def test_values_as_they_will_be_used() -> None:
    assert value("attack", "ring-a-bell", "generations", {"generations": 20}, 1) == 20
    assert value("attack", "ring-a-bell", "population", {}, 1) == 200
    assert value("attack", "none", "generations", {}, 1) == 1


@pytest.mark.parametrize(("text", "said"), [
    ('PRESETS = {"quick": {"n": 2}, "full": {"word": "x"}}', ""), ('PRESETS = {"quick": {"m": 2}}', "names m, which acme does not take"),
    ("PRESETS = {'quick': {'n': LIMIT}}", "is no literal"),
])  # fmt: skip
def test_presets_are_read_without_importing(plugin: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    (plugin / "deep.py").write_text(f"{PLUGIN}\n{text}\n", "utf-8")
    monkeypatch.setitem(BUILT_IN, "attack", {"acme": "acme_options.deep:attack"})
    _table.cache_clear()
    presets.cache_clear()
    try:
        if said:
            with pytest.raises(OptionError, match=said):
                presets("attack", "acme")
        else:
            assert presets("attack", "acme") == {"quick": {"n": 2}, "full": {"word": "x"}}
    finally:
        monkeypatch.undo()
        _table.cache_clear()
        presets.cache_clear()
