"""What code a result depends on: the modules of SafeFlux that a module imports, and those that they import."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from safeflux.files import source_digest


def digest(*modules: str) -> str:
    """One digest of the sources of ``modules`` and of all of SafeFlux that they import, wherever in the file, but for types alone."""
    found: set[Path] = set()
    todo = list(modules)
    while todo:
        if (path := _source(todo.pop())) is not None and path not in found:
            found.add(path)
            todo += _imported(ast.parse(path.read_text(encoding="utf-8")))
    return source_digest(*sorted(found))[:16]


def _source(module: str) -> Path | None:
    """The file of a module; None for a name inside of one."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin else None


def _imported(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        if isinstance(child, ast.ImportFrom) and (child.module or "").startswith("safeflux."):
            yield str(child.module)
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module == "safeflux":
            yield from (f"safeflux.{alias.name}" for alias in child.names)
        yield from _imported(child)
