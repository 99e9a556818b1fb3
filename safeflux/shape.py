"""A small JSON Schema checker: the part of draft 2020-12 that the shipped schemas use, without a dependency.

Files are checked when they are written and when they are read, also where nothing but the base install is at hand. A
keyword it does not know is an error in the schema, never skipped.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

_BOUNDS = {"minimum": operator.ge, "maximum": operator.le, "exclusiveMinimum": operator.gt, "exclusiveMaximum": operator.lt}
_NOTES = {"$schema", "$id", "$defs", "title", "description"}
_KNOWN = {
    *_NOTES, *_BOUNDS, "$ref", "type", "const", "enum", "properties", "required", "additionalProperties", "items", "minItems",
    "uniqueItems", "minLength", "pattern",
}  # fmt: skip


def problems(value: object, schema: Schema) -> list[str]:
    """Everything about ``value`` that ``schema`` does not allow, each as "path: what came, what is wanted"."""
    return list(_check(value, schema, schema, ""))


def _check(value: object, schema: Schema, root: Schema, path: str) -> Iterator[str]:
    if unknown := set(schema) - _KNOWN:
        raise NotImplementedError(f"schema keyword {sorted(unknown)} at {path or 'the top'}")
    if "$ref" in schema:
        yield from _check(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, path)
        return
    wanted = schema.get("type", ())
    kinds = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    if kinds and not any(_is(value, kind) for kind in kinds):
        yield f"{path or 'the report'}: got {_show(value)}, wanted {' or '.join(kinds)}"
        return
    yield from _check_scalar(value, schema, path)
    if isinstance(value, Mapping):
        yield from _check_object(value, schema, root, path)
    elif isinstance(value, list):
        yield from _check_list(value, schema, root, path)


def _check_scalar(value: object, schema: Schema, path: str) -> Iterator[str]:
    if "const" in schema and not _same(value, schema["const"]):
        yield f"{path}: got {_show(value)}, wanted {_show(schema['const'])}"
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        yield f"{path}: got {_show(value)}, wanted one of {', '.join(map(_show, schema['enum']))}"
    if isinstance(value, str):
        if len(value) < schema.get("minLength", 0):
            yield f"{path}: is empty"
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{path}: got {_show(value)}, wanted a match of {schema['pattern']}"
    elif _is(value, "number"):
        assert isinstance(value, int | float)
        for keyword, holds in _BOUNDS.items():
            if keyword in schema and not holds(value, schema[keyword]):
                yield f"{path}: got {_show(value)}, against {keyword} {schema[keyword]}"


def _check_object(value: Mapping[Any, object], schema: Schema, root: Schema, path: str) -> Iterator[str]:
    named, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{_under(path, name)}: is missing"
    for name, inner in value.items():
        if name in named:
            yield from _check(inner, named[name], root, _under(path, name))
        elif others is False:
            yield f"{_under(path, name)}: unknown field; known here: {', '.join(sorted(named))}"
        elif others is not True:
            yield from _check(inner, others, root, _under(path, name))


def _check_list(value: list[object], schema: Schema, root: Schema, path: str) -> Iterator[str]:
    if len(value) < schema.get("minItems", 0):
        yield f"{path}: has {len(value)} entries, wanted at least {schema['minItems']}"
    if schema.get("uniqueItems") and any(_same(a, b) for i, a in enumerate(value) for b in value[:i]):
        yield f"{path}: says the same thing twice"
    for i, inner in enumerate(value):
        yield from _check(inner, schema.get("items", {}), root, f"{path}[{i}]")


def _is(value: object, kind: str) -> bool:
    """JSON's types: a bool is no number, and neither is NaN or infinity, which JSON cannot write."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    match kind:
        case "number":
            return number
        case "integer":
            return number and isinstance(value, int)
        case "object":
            return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
        case _:
            return isinstance(value, {"string": str, "boolean": bool, "null": type(None), "array": list}[kind])


def _same(a: object, b: object) -> bool:
    return type(a) is type(b) and a == b


def _under(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
