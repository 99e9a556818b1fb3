"""The policies that SafeFlux brings, found in a checkout (``policies/``) and in an installed wheel (``safeflux/policies/``) alike."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def _folder() -> Path:
    """A wheel carries the files inside the package; in a checkout they stand beside it."""
    inside = _PACKAGE / "policies"
    return inside if inside.is_dir() else _PACKAGE.parent / "policies"


def templates() -> dict[str, str]:
    """Names of the templates, and the first line of each: what it is for."""
    found = {path.stem: path.read_text("utf-8").partition("\n")[0].lstrip("# ") for path in sorted(_folder().glob("*.yaml"))}
    return {name: found[name] for name in sorted(found, key=lambda name: (name != "demo", name))}


def template(name: str) -> bytes:
    """The text of a template, as its file has it. KeyError for one that is not there."""
    if name not in templates():
        raise KeyError(name)
    return (_folder() / f"{name}.yaml").read_bytes()
