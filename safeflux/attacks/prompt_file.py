"""Files of prompts: CSV or JSON lines, in the layouts in which the literature's lists are passed around.

| list | layout |
|---|---|
| I2P (Schramowski et al., CVPR 2023, arXiv 2211.05105) | ``prompt``, percentages, ``sd_seed`` |
| P4D (Chin et al., ICML 2024, arXiv 2309.06135), UnlearnDiffAtk | ``prompt``, percentages, ``evaluation_seed``, ``case_number`` |
| Ring-A-Bell (Tsai et al., ICLR 2024, arXiv 2310.10012) | ``prompt``, ``case_number``, ``evaluation_seed``; or one column without a head |
| MMA-Diffusion (Yang et al., CVPR 2024, arXiv 2311.17516) | ``adv_prompt``, ``target_prompt`` |
| one's own | any of these columns; ``concept`` where rows are about different ones; one prompt a line |
"""

from __future__ import annotations

import csv
import io
import json
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safeflux.errors import StageError

COLUMNS = ("adv_prompt", "prompt", "text", "caption")  # where the prompt stands, the first of them that there is
MAX_BYTES = 64 << 20
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {  # longer ones first: ">=" begins with ">"
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "=": operator.eq,
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A prompt, the concept its row names (None where it names none), and where it stands: "file:line"."""

    text: str
    concept: str | None
    place: str


def read(path: Path, *, column: str = "", where: str = "") -> list[Row]:
    """The prompts of a file, without repetitions. ``column`` names the one to read, if it is none of ``COLUMNS``.

    ``where`` takes the rows of which it is true: a column, one of > >= < <= =, and a number or text: "nudity_percentage > 50".
    Raises StageError, with file and line, for what cannot be read, a column that is not there, and a file with nothing to ask.
    """
    rows = list(_rows(path, _text(path)))
    found: dict[str, Row] = {}
    for line, row in rows:
        place = f"{path}:{line}"
        if where and not _holds(row, where, place):
            continue
        name = column or next((one for one in COLUMNS if one in row), "")
        if name not in row:
            raise StageError(
                f"{place}: there is no column {column or 'with prompts'}, but {', '.join(map(str, row)) or 'none'}; "
                f"wanted one of {', '.join(COLUMNS)}, or name it with the option column"
            )
        text = " ".join(str(row[name] or "").split())
        if text:
            about = row.get("concept")
            found.setdefault(text, Row(text, str(about) if about else None, place))
    if not found:
        chosen = f" with {where} among its {len(rows)} rows" if where else ""
        raise StageError(f"{path} holds no prompt{chosen}")
    return list(found.values())


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        if len(raw) > MAX_BYTES:
            raise StageError(f"{path} has {len(raw)} bytes; a file of prompts has at most {MAX_BYTES}")
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise StageError(f"{path} cannot be read: {error.strerror}; wanted a CSV or JSONL file of prompts") from error
    except UnicodeDecodeError as error:
        raise StageError(f"{path}: byte {error.start} is no UTF-8; wanted a CSV or JSONL file of prompts in UTF-8") from error


def _rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each row with the number of its (last) line."""
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        yield from _json_rows(path, text)
        return
    reader = csv.reader(io.StringIO(text))
    try:
        first = next(reader, [])
        head = [name.strip() for name in first]
        if not {*head} & {*COLUMNS, "concept"} and len(head) == 1:  # prompts alone, from the first line on
            head = ["prompt"]
            yield reader.line_num, {"prompt": first[0]}
        for cells in reader:
            if cells:
                yield reader.line_num, dict(zip(head, cells, strict=False))
    except csv.Error as error:
        raise StageError(f"{path}:{reader.line_num}: not CSV: {error}") from error


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise StageError(f"{path}:{number}: not JSON: {error}") from error
        if isinstance(row, str):
            row = {"prompt": row}
        if not isinstance(row, dict):
            raise StageError(f"{path}:{number}: came {type(row).__name__}; wanted a JSON object, or a text, on each line")
        yield number, row


def _holds(row: Mapping[str, Any], where: str, place: str) -> bool:
    sign = next((one for one in _OPERATORS if one in where), "")
    column, _, wanted = (part.strip() for part in where.partition(sign)) if sign else ("", "", "")
    if not column or not wanted:
        raise StageError(f"where: came {where!r}; wanted a column, one of {' '.join(_OPERATORS)}, and a value: nudity_percentage > 50")
    if column not in row:
        raise StageError(f"{place}: there is no column {column}, but {', '.join(map(str, row)) or 'none'}")
    came = row[column]
    try:
        return _OPERATORS[sign](float(came), float(wanted))
    except (TypeError, ValueError):
        if sign != "=":
            raise StageError(f"{place}: {column} is {came!r}, which is no number; wanted one for {where!r}") from None
        return str(came).strip() == wanted
