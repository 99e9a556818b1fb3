"""JSON that means one thing to every reader.

Two parsers that disagree about a document let an attacker show one thing to the verifier and another to the user. So
duplicate keys, NaN, lone surrogates, a byte order mark and anything that is not UTF-8 are refused, and so are documents
deeper than any honest one, or with more values in them: JSON can take twenty times its size in memory.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from safeflux_signing.errors import LONGEST, refusal

MAX_DEPTH = 64
MAX_VALUES = 2_000_000
"""More than a manifest can have: with four to a file of 110 bytes or more, the 48 MiB of a payload hold 1.9 million."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # one without an end goes to the end of the document: time stays linear
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class _DuplicateKeyError(ValueError):
    pass


def loads(data: bytes, file: str, values: int = MAX_VALUES) -> Json:
    """The value of the JSON document ``data``, in which there are at most ``values``; ``file`` is named in errors.

    Raises UnsafeReleaseError: json-too-large (before anything is made of it), json-invalid, json-duplicate-key, json-too-deep.
    """
    if _values(data) > values and _values(_STRING.sub(b"", data)) > values:
        raise refusal("json-too-large", file, "more JSON values than in any honest document of this kind", expected=f"at most {values}")
    try:
        value: Json = json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant)
        _check(value, MAX_DEPTH)
    except _DuplicateKeyError as error:
        raise refusal("json-duplicate-key", file, f"the key {error} stands twice in one JSON object") from None
    except RecursionError:
        raise refusal("json-too-deep", file, f"JSON nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise refusal("json-invalid", file, f"not valid JSON: {error}") from None
    return value


def dumps(value: object) -> bytes:
    """The one way this package writes JSON: UTF-8, sorted keys, no spaces. The same value gives the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")


def read_time(value: Json) -> datetime:
    """A time as it stands in this package's JSON: 2026-01-02T03:04:05Z and no other way. Raises ValueError."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ValueError("not a time such as 2026-01-02T03:04:05Z")
    return datetime.fromisoformat(value)  # strptime would import half a dozen modules


def write_time(time: datetime) -> str:
    """``time`` as ``read_time`` reads it, to the second."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def fields(value: Json, what: str, file: str, code: str, required: set[str], optional: set[str]) -> dict[str, Json]:
    """``value`` as an object that has all ``required`` fields and no others but ``optional`` ones; ``what`` names it in a sentence.

    Raises the error of reason ``code``.
    """
    if not isinstance(value, dict):
        raise refusal(code, file, f"{what} is not a JSON object")
    if missing := sorted(required - value.keys()):
        raise refusal(code, file, f"{what} lacks {', '.join(missing)}")
    if unknown := sorted(value.keys() - required - optional):
        raise refusal(code, file, f"{what} has fields that this verifier does not know", actual=", ".join(unknown))
    return value


def _values(data: bytes) -> int:
    """At least as many as there are values in a document; exact up to empty lists and objects, where ``data`` has no strings."""
    return 1 + data.count(b",") + data.count(b"[") + data.count(b"{")


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value: dict[str, Json] = {}
    for key, item in pairs:
        if key in value:
            raise _DuplicateKeyError(repr(key if len(key) <= LONGEST else f"{key[:LONGEST]}..."))
        value[key] = item
    return value


def _constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


def _check(value: Json, depth: int) -> None:
    """Depth, numbers too large for a float, and strings that no UTF-8 can hold (they would crash whoever writes them out)."""
    if isinstance(value, list | dict) and not depth:
        raise RecursionError
    if isinstance(value, str):
        value.encode("utf-8")
    elif isinstance(value, float) and value in (float("inf"), float("-inf")):
        raise ValueError("a number is out of range")
    elif isinstance(value, list):
        for item in value:
            _check(item, depth - 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            key.encode("utf-8")
            _check(item, depth - 1)
