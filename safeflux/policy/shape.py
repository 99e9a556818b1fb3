"""Checks a marked tree against the schema, in words. Knows the few JSON Schema keywords that ``fields`` uses.

A general validator cannot be used: it reports neither lines and columns nor what a person probably meant.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from safeflux.policy.fields import Schema
from safeflux.policy.tree import Node, Problem

_OTHER_WORDS = {"max": "at_most", "maximum": "at_most", "min": "at_least", "minimum": "at_least"}  # what limits are called elsewhere
BAD = object()  # what a refused value becomes


def close(word: str, allowed: Iterable[str]) -> str:
    """'; did you mean "x"?' for the nearest allowed word, or nothing."""
    word = _OTHER_WORDS.get(word, word)
    by_lower = {one.lower().replace("_", "-"): one for one in allowed}
    near = difflib.get_close_matches(word[:80].lower().replace("_", "-"), by_lower, 1)
    return f'; did you mean "{by_lower[near[0]]}"?' if near else ""


def came(node: Node) -> str:
    match node.value:
        case None:
            return "came nothing"
        case bool():
            return f"came {node.raw}"
        case int() | float():
            return f"came the number {node.raw}"
        case str() as text:
            return f'came the text "{text if len(text) <= 60 else text[:57] + "..."}"'
        case list():
            return "came a list"
        case _:
            return f"came a mapping with {', '.join(list(node.keys)[:6])}" if node.keys else "came an empty mapping"


def allowed(schema: Schema) -> str:
    if "description" in schema:
        return str(schema["description"])
    if "anyOf" in schema:
        return ", or ".join(allowed(one) for one in schema["anyOf"])
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    match schema.get("type"):
        case "boolean":
            return "true or false"
        case "integer" | "number" as kind:
            return ("a whole number" if kind == "integer" else "a number") + _range(schema)
        case "array":
            return f"a list, each {allowed(schema['items'])}"
        case "object" if schema.get("maxProperties") == 1:
            return f"{{name: {{option: value}}}} with one name of {', '.join(schema['properties'])}"
        case "object":
            return f"a mapping with {', '.join(schema.get('properties', ())) or 'no keys'}"
        case "null":
            return "null"
    return "text"


def _range(schema: Schema) -> str:
    words = {
        "minimum": "from",
        "exclusiveMinimum": "above",
        "maximum": "to" if "minimum" in schema else "up to",
        "exclusiveMaximum": "below",
    }
    said = [f"{word} {schema[key]}" for key, word in words.items() if key in schema]
    return f" {(' ' if 'minimum' in schema else ', ').join(said)}" if said else ""


class Shape:
    """Walks tree and schema together; ``problems`` grows, ``value`` returns plain data with what is wrong left out."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def say(self, node: Node, path: str, schema: Schema, hint: str = "") -> object:
        self.problems.append(Problem(node.line, node.column, path, f"{came(node)}; allowed: {allowed(schema)}{hint}"))
        return BAD

    def value(self, node: Node, schema: Schema, path: str) -> Any:
        if node.spoilt:
            return BAD
        if "anyOf" in schema:
            fitting = [one for one in schema["anyOf"] if _fits(node, one)]
            return self.value(node, fitting[0], path) if fitting else self.say(node, path, schema, _meant(node, schema["anyOf"]))
        if not _fits(node, schema):
            return self.say(node, path, schema, _meant(node, [schema]))
        match node.value:
            case dict() as entries:
                return self.mapping(node, entries, schema, path)
            case list() as items:
                return self.sequence(node, items, schema, path)
            case str() as text:
                return self.text(node, text, schema, path)
            case bool() | None as plain:
                return plain
            case int() | float() as number:
                return self.number(node, number, schema, path)

    def mapping(self, node: Node, entries: dict[str, Node], schema: Schema, path: str) -> object:
        known = schema.get("properties", {})
        data = {}
        if len(entries) not in range(schema.get("minProperties", 0), schema.get("maxProperties", len(entries)) + 1):
            return self.say(node, path, schema, _one_choice(entries, known))
        for key, inner in entries.items():
            at = f"{path}.{key}" if path else key
            if key in known:
                data[key] = self.value(inner, known[key], at)
            elif schema.get("additionalProperties", True):
                data[key] = plain(inner)
            else:
                said = f'came the unknown key "{key[:60]}"; allowed: {", ".join(known) or "no key here"}{close(key, known)}'
                self.problems.append(Problem(*node.keys[key], at, said))
        for key in schema.get("required", ()):
            if key not in entries:
                at = f"{path}.{key}" if path else key
                said = f"is missing; wanted: {allowed(known[key])}"
                self.problems.append(Problem(node.line, node.column, at, said))
        return {key: value for key, value in data.items() if value is not BAD}

    def sequence(self, node: Node, items: list[Node], schema: Schema, path: str) -> object:
        if len(items) < schema.get("minItems", 0):
            short = f"a list of {len(items)}" if items else "an empty list"
            least = {1: "one"}.get(schema["minItems"], schema["minItems"])
            said = f"came {short}; allowed: at least {least}, each {allowed(schema['items'])}"
            self.problems.append(Problem(node.line, node.column, path, said))
            return BAD
        return [self.value(item, schema["items"], f"{path}[{i}]") for i, item in enumerate(items)]

    def text(self, node: Node, text: str, schema: Schema, path: str) -> object:
        if "enum" in schema:
            return text if text in schema["enum"] else self.say(node, path, schema, close(text, map(str, schema["enum"])))
        fits = len(text) <= schema.get("maxLength", len(text)) and re.fullmatch(schema.get("pattern", r"^[\s\S]*$"), text)
        return text if fits else self.say(node, path, schema, _tidy(text, schema))

    def number(self, node: Node, number: float, schema: Schema, path: str) -> object:
        fits = (
            number == schema.get("const", number)
            and number in schema.get("enum", [number])
            and schema.get("minimum", number) <= number <= schema.get("maximum", number)
            and not number <= schema.get("exclusiveMinimum", number - 1)
            and not number >= schema.get("exclusiveMaximum", number + 1)
        )
        if not fits:
            percent = schema.get("maximum", schema.get("exclusiveMaximum")) == 1 and 1 < number <= 100
            return self.say(node, path, schema, f"; did you mean {number / 100:g}?" if percent else "")
        return int(number) if schema.get("type") == "integer" else float(number) if schema.get("type") == "number" else number


def _fits(node: Node, schema: Schema) -> bool:
    """Is ``node`` of the kind that ``schema`` wants? A whole float counts as an integer, as in JSON Schema."""
    value, kind = node.value, schema.get("type")
    if isinstance(value, bool):
        return kind == "boolean" or (kind is None and any(value is one for one in schema.get("enum", ())))
    match kind:
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        case "number":
            return isinstance(value, int | float)
        case "null":
            return value is None
    return kind is None and any(type(value) is type(one) for one in schema.get("enum", ()))


def _meant(node: Node, schemas: list[Schema]) -> str:
    """What a value of the wrong kind was probably meant to be."""
    kinds = {one.get("type") for one in schemas}
    match node.value:
        case str() as text if kinds & {"number", "integer"}:
            digits = text.strip().removesuffix("%")
            if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", digits):
                return ""
            return f"; did you mean {float(digits) / 100 if '%' in text else float(digits):g}, without quotes or signs?"
        case str() as text if "boolean" in kinds and text.lower() in ("yes", "on", "no", "off", "true", "false"):
            return f"; did you mean {str(text.lower() in ('yes', 'on', 'true')).lower()}, without quotes?"
        case str() as text if "array" in kinds:
            return f'; did you mean "[{text[:60]}]"?'
        case bool() | int() | float() if "string" in kinds:
            return f'; did you mean "{node.raw}", in quotes?'
    return ""


def _tidy(text: str, schema: Schema) -> str:
    """The same text without what the pattern forbids, if that makes it fit."""
    slug = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")
    for guess in (" ".join(text.split()), text.removeprefix("v"), slug, f"./{text}" if "/" in text else f"builtin:{text}"):
        if guess and guess != text and len(guess) <= schema.get("maxLength", 200) and re.fullmatch(schema.get("pattern", "^$"), guess):
            return f'; did you mean "{guess}"?'
    return ""


def _one_choice(entries: dict[str, Node], known: Iterable[str]) -> str:
    """A person who writes ``{name: mask, options: {...}}`` means ``{mask: {...}}``."""
    name = entries.get("name")
    if name is not None and isinstance(name.value, str) and name.value in known:
        return f'; did you mean "{name.value}: {{...}}"?'
    return ""


def plain(node: Node) -> object:
    """The tree without its marks."""
    match node.value:
        case dict() as entries:
            return {key: plain(inner) for key, inner in entries.items()}
        case list() as items:
            return [plain(item) for item in items]
        case scalar:
            return scalar
