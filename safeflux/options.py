"""Which options a function takes, read from its source text, so that checking a policy needs no torch.

The options of a method, attack, metric, detector or exporter are its keyword-only arguments that have a default and a
plain type: bool, int, float, str, Literal of those, a tuple or list of one of them, or any of these "| None".
Keyword-only arguments of other types (a progress callback), or without a default, are the caller's and no option.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path

from safeflux.errors import OptionError
from safeflux.registry import Kind, target

_PLAIN = {"bool": "boolean", "int": "integer", "float": "number", "str": "string"}


@dataclass(frozen=True)
class Option:
    """One option: ``schema`` is the JSON Schema of its values, ``default`` what the function takes when it is not set."""

    name: str
    schema: Mapping[str, object]
    default: object


def options(kind: Kind, name: str) -> Mapping[str, Option]:
    """The options of a registered function, in its order. RegistryError: no such name; OptionError: its source cannot be read."""
    return read(target(kind, name))


def value(kind: Kind, name: str, option: str, chosen: Mapping[str, object], otherwise: int) -> int:
    """A whole-number option as it will be used: from the policy, else the function's default, else ``otherwise``."""
    default = options(kind, name)[option].default if option in options(kind, name) else otherwise
    found = chosen.get(option, default)
    return found if isinstance(found, int) else otherwise


@cache
def presets(kind: Kind, name: str) -> Mapping[str, Mapping[str, object]]:
    """By preset, the options that a registered function has other values for there: the constant ``PRESETS`` of its module, if any.

    Raises OptionError unless it is a literal that names options of the function.
    """
    where = target(kind, name)
    tree, _ = _parse(where.partition(":")[0])
    for node in tree.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id="PRESETS")], value=given)
                | ast.AnnAssign(target=ast.Name(id="PRESETS"), value=ast.expr() as given)
            ):
                try:
                    found: Mapping[str, Mapping[str, object]] = ast.literal_eval(given)
                    unknown = {option for chosen in found.values() for option in chosen} - read(where).keys()
                except (ValueError, AttributeError) as error:
                    raise OptionError(f"{where}: PRESETS is no literal of options by preset: {error}") from error
                if unknown:
                    raise OptionError(f"{where}: PRESETS names {', '.join(sorted(unknown))}, which {name} does not take")
                return found
    return {}


@cache
def read(where: str) -> Mapping[str, Option]:
    """The options of "module:function", following a ``from x import function`` to where it is written."""
    module, _, function = where.partition(":")
    tree, package = _parse(module)
    constants: dict[str, ast.expr] = {}
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) if name == function:
                return _options(node, constants, where)
            case ast.ImportFrom(module=origin, level=level, names=aliases):
                for alias in aliases:
                    if (alias.asname or alias.name) == function:
                        source = importlib.util.resolve_name("." * level + (origin or ""), package)
                        return read(f"{source}:{alias.name}")
            case ast.Assign(targets=[ast.Name(id=name)], value=given) | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as given):
                constants[name] = given
    raise OptionError(f"{module} has no function {function}; the name registered for it should be module:function")


def _options(node: ast.FunctionDef, constants: Mapping[str, ast.expr], where: str) -> Mapping[str, Option]:
    found = {}
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        schema = _schema(argument.annotation, constants)
        if default is None or schema is None or argument.arg.startswith("_"):
            continue
        try:
            plain = ast.literal_eval(constants.get(default.id, default) if isinstance(default, ast.Name) else default)
        except ValueError as error:
            raise OptionError(
                f"{where}, line {default.lineno}: the default of {argument.arg} is {ast.unparse(default)}; "
                "it has to be a literal, or a constant of the same file, to be read without importing"
            ) from error
        found[argument.arg] = Option(argument.arg, schema, plain)
    return found


def _schema(annotation: ast.expr | None, constants: Mapping[str, ast.expr]) -> dict[str, object] | None:
    """JSON Schema of an annotation; None for a type no policy can write. ``constants`` resolves ``Mode = Literal[...]``."""
    match annotation:
        case ast.Constant(value=None):
            return {"type": "null"}
        case ast.Constant(value=str(text)):
            return _schema(ast.parse(text, mode="eval").body, constants)
        case ast.Name(id=name) if name in _PLAIN:
            return {"type": _PLAIN[name]}
        case ast.Name(id=name) if name in constants:
            return _schema(constants[name], {key: node for key, node in constants.items() if key != name})
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            values = ast.literal_eval(inner)
            return {"enum": list(values) if isinstance(values, tuple) else [values]}
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=[item, ast.Constant(value=end)])) if end is ...:
            return _items(_schema(item, constants))
        case ast.Subscript(value=ast.Name(id="list" | "Sequence"), slice=item):
            return _items(_schema(item, constants))
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            sides = [_schema(side, constants) for side in (left, right)]
            return None if None in sides else {"anyOf": sides}
    return None


def _items(schema: dict[str, object] | None) -> dict[str, object] | None:
    return None if schema is None else {"type": "array", "items": schema}


def _parse(module: str) -> tuple[ast.Module, str]:
    """The syntax tree of a module and the package that its relative imports start from."""
    spec = _find(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise OptionError(f"the source of {module} cannot be found; its options can only be read from a .py file")
    try:
        tree = ast.parse(Path(spec.origin).read_text("utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise OptionError(f"the source of {module} cannot be read: {error}") from error
    return tree, spec.parent or module


def _find(module: str) -> ModuleSpec | None:
    """Like ``importlib.util.find_spec``, which would import (and so run) the parent packages."""
    path: list[str] | None = None
    spec = None
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        found = (finder.find_spec(name, path) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((one for one in found if one is not None), None)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
    return spec
