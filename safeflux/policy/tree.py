"""YAML text to a tree of values that know where they stand.

Stricter than YAML: one document of mappings with text keys, lists and plain values; no anchors, aliases, tags or
directives (nothing expands, nothing is constructed), no key twice. Plain values follow the core schema of YAML 1.2:
``no`` and ``12:30`` are text, ``010`` is ten.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

MAX_DEPTH = 12  # a policy needs six
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Problem:
    """One thing wrong: where (``line`` and ``column`` from 1), which field, and what to say."""

    line: int
    column: int
    path: str
    text: str

    def show(self, file: str) -> str:
        return f"{file}:{self.line}:{self.column}: {f'{self.path}: ' if self.path else ''}{self.text}"


@dataclass(frozen=True)
class Node:
    """A value and its place; ``raw`` is a scalar as written, ``keys`` the places of a mapping's keys.

    ``spoilt``: it was refused already, and what it would have been is nobody's business.
    """

    value: Scalar | dict[str, Node] | list[Node]
    line: int
    column: int
    raw: str = ""
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    spoilt: bool = False


class _StopError(Exception):
    """Nothing after this place can be understood."""


def parse(text: str) -> tuple[Node | None, list[Problem]]:
    """The tree of ``text`` (None if it has none) and what is wrong with it as YAML."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.reader import ReaderError

    builder = _Builder(YAML(typ="safe", pure=True).parse(io.StringIO(text)))
    try:
        return builder.document(), builder.problems
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = re.sub(r"\s+", " ", f"{error.problem or error.context}")
        builder.problems.append(Problem(mark.line + 1, mark.column + 1, "", _explain(said)))
    except ReaderError as error:
        before = text[: error.position]
        code = error.character if isinstance(error.character, int) else ord(error.character)
        said = f"came the character U+{code:04X}; printable text is allowed"
        builder.problems.append(Problem(before.count("\n") + 1, error.position - before.rfind("\n"), "", said))
    except _StopError:
        pass
    return None, builder.problems


def _explain(said: str) -> str:
    if "'\\t'" in said:
        return "not YAML: came a tab; indent with spaces"
    if said.startswith("mapping values are not allowed"):
        return 'not YAML: came a second ":" on this line, or a wrong indentation; text that holds ": " is written in quotes'
    return f"not YAML: {said}"


class _Builder:
    """Builds the tree from parser events, and goes on after a problem where that makes sense."""

    def __init__(self, events: Iterator[Any]) -> None:
        self.events = events
        self.problems: list[Problem] = []

    def say(self, event: Any, path: str, text: str) -> None:
        self.problems.append(Problem(event.start_mark.line + 1, event.start_mark.column + 1, path, text))

    def document(self) -> Node | None:
        node = None
        for event in self.events:
            match type(event).__name__:
                case "StreamStartEvent" | "StreamEndEvent" | "DocumentEndEvent":
                    continue
                case "DocumentStartEvent":
                    if node is not None:
                        self.say(event, "", "came a second document; a policy is one")
                        raise _StopError
                    if event.version or event.tags:
                        self.say(event, "", 'came a "%" directive; a policy needs none')
                case _:
                    node = self.node(event, "", 0)
        return node

    def node(self, event: Any, path: str, depth: int) -> Node:
        kind = type(event).__name__
        if kind == "AliasEvent":
            self.say(event, path, f"came the alias *{event.anchor}; a policy repeats what it means")
            return replace(self.place(event, None), spoilt=True)
        if event.anchor:
            self.say(event, path, f"came the anchor &{event.anchor}; a policy has none")
        if event.tag:
            tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
            self.say(event, path, f"came the tag {tag}; values are plain text, numbers, true or false")
        if depth > MAX_DEPTH:
            self.say(event, path, f"came a value {depth} levels deep; {MAX_DEPTH} are allowed")
            raise _StopError
        if kind == "MappingStartEvent":
            return self.mapping(event, path, depth)
        if kind == "SequenceStartEvent":
            items: list[Node] = []
            for item in self.events:
                if type(item).__name__ == "SequenceEndEvent":
                    break
                items.append(self.node(item, f"{path}[{len(items)}]", depth + 1))
            return self.place(event, items)
        scalar = _scalar(event.value) if event.implicit[0] else event.value
        return replace(self.place(event, scalar, raw=event.value), spoilt=bool(event.tag))

    def mapping(self, event: Any, path: str, depth: int) -> Node:
        entries: dict[str, Node] = {}
        keys: dict[str, tuple[int, int]] = {}
        for key in self.events:
            if type(key).__name__ == "MappingEndEvent":
                break
            if type(key).__name__ != "ScalarEvent":
                self.say(key, path, "came a key that is not text")
                raise _StopError
            name = str(key.value)
            inner = f"{path}.{name}" if path else name
            here = (key.start_mark.line + 1, key.start_mark.column + 1)
            value = self.node(next(self.events), inner, depth + 1)
            if value.value is None and not value.raw and not value.spoilt:  # nothing written: the parser's mark is somewhere after it
                value = Node(None, *here)
            if name in entries:
                self.say(key, inner, f"came twice, first on line {keys[name][0]}; each key is allowed once")
                continue
            entries[name], keys[name] = value, here
        return self.place(event, entries, keys=keys)

    def place(self, event: Any, value: Any, raw: str = "", keys: dict[str, tuple[int, int]] | None = None) -> Node:
        return Node(value, event.start_mark.line + 1, event.start_mark.column + 1, raw, keys or {})


def _scalar(text: str) -> Scalar:
    """A plain value by the YAML 1.2 core schema; what is too long for a number, or not finite, stays text."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > 40:
        return text
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _NUMBER.fullmatch(text):
        return float(text) if math.isfinite(float(text)) else text
    return text
