"""Tables in pages: what stands between two marks is written by a script, the rest by people."""

from __future__ import annotations

from pathlib import Path


def put(page: Path, **tables: str) -> None:
    """Write each table between its marks in ``page``. Raises ValueError where the marks are not both there, once and in order."""
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        begin, end = _marks(name)
        head, old, rest = _cut(text, begin, end, page)
        text = f"{head}{begin}\n{table.strip()}\n{end}{rest}" if table.strip() != old.strip() else text
    page.write_text(text, encoding="utf-8")


def found(page: Path, name: str) -> str:
    """What stands between the marks."""
    return _cut(page.read_text(encoding="utf-8"), *_marks(name), page)[1].strip()


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def _cut(text: str, begin: str, end: str, page: Path) -> tuple[str, str, str]:
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{page}: wanted {begin} and, after it, {end}, each once")
    head, rest = text.split(begin)
    return head, *rest.split(end)  # type: ignore[return-value]
