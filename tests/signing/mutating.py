"""Changes of signed documents, drawn by hypothesis: of their bytes, of the values in their JSON, of their lines."""

from __future__ import annotations

import base64
import copy
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safeflux_signing import strictjson

Path = tuple[Any, ...]
"""The keys and indices that lead to a part of a JSON value."""

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**70, 1.0, 1.5, "", "x", "\x00", "0" * 64, "AAAA", [], {}, [{}], [[]], {"a": 1}, "e\u0301", "\u202e"),
    *("../x", "/x", "a//x", "./a-b", "A-B", "model.sig", "signatures/x", "con", "a", "a/x", "2026-13-01T00:00:00Z", "publisher", "*"),
    *("urn:safeflux:commitment:v1", "https://model_signing/signature/v1.0", "https://slsa.dev/provenance/v1"),
)
NAMES = ("a", "name", "digest", "keyid", "sha256", "annotations", "certificate", "")
PIECES = (
    b"", b"\n", b" ", b"\r\n", b"\t", b"{}", b"[]", b",", b'"', b"\\", b"=", b"null", b"NaN", b"\xff", b"\x00", b"[" * 99, b"9" * 5000,
)  # fmt: skip
DOUBLE = "double:"
"""Begins the name of a field that is written under the name behind it: JSON that has a name twice."""


Change = TypeVar("Change")


def tried(check: Callable[[Change], bool], changes: st.SearchStrategy[Change], examples: int, first: Iterable[Change] = ()) -> None:
    """Have ``check`` try all of ``first``, and ``examples`` of ``changes``, the same each time; it tells whether one was accepted.

    Fails, beside where ``check`` does, if hardly any was accepted or hardly any refused: then little was tried.
    """
    for change in first:
        check(change)
    seen: Counter[bool] = Counter()

    @settings(max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(changes)
    def every(change: Change) -> None:
        seen[check(change)] += 1

    every()
    assert min(seen[True], seen[False]) >= examples // 50, seen


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """The path of every part of a JSON value, the whole included."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def at(value: Any, path: Path) -> Any:
    """The part of ``value`` to which ``path`` leads."""
    for key in path:
        value = value[key]
    return value


@st.composite
def edited(draw: st.DrawFn, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """``data`` after up to three changes of its bytes: flipped, deleted, inserted, repeated, cut short, taken from ``others``."""
    for _ in range(draw(st.integers(0, 3))):
        edges = (0, len(data), *(place + side for place in range(len(data)) if data[place] == 10 for side in (0, 1)))
        start = draw(st.integers(0, len(data)) | st.sampled_from(edges))
        end = min(len(data), start + draw(st.sampled_from((0, 1, 1, 2, 9, 60, 9999))))
        kind = draw(st.sampled_from(("flip", "delete", "insert", "repeat", "cut", "exchange")))
        piece = data[start:end]
        if kind == "flip":
            piece = bytes([piece[0] ^ 1 << draw(st.integers(0, 7))]) + piece[1:] if piece else b""
        elif kind == "insert":
            piece = draw(st.sampled_from((*PIECES, *others)) | st.binary(max_size=3)) + piece
        elif kind == "repeat":
            piece += piece
        elif kind == "exchange":
            piece = draw(st.sampled_from((*PIECES, *others)))
        data = data[:start] + (b"" if kind == "delete" else piece) + (b"" if kind == "cut" else data[end:])
    return data


def _retyped(value: Any) -> st.SearchStrategy[Any]:
    """About the same as ``value``, as something else."""
    ways = [[value], {"value": value}, str(value), bool(value), None]
    if isinstance(value, int):
        ways.append(float(value))
    if isinstance(value, list | dict):
        ways += list(value)
    return st.sampled_from(ways)


@st.composite
def _text(draw: st.DrawFn, text: str) -> str:
    """``text`` with something inserted, exchanged or taken out."""
    start = draw(st.integers(0, len(text)))
    return text[:start] + draw(st.sampled_from(("", "/", "../", "\0", " ", "*", "A", "=", "-"))) + text[start + draw(st.integers(0, 2)) :]


@st.composite
def restructured(
    draw: st.DrawFn,
    document: Any,
    *,
    changes: int = 2,
    values: Sequence[Any] = VALUES,
    allowed: Callable[[Path], bool] = lambda path: True,
) -> Any:
    """``document`` with up to so many ``changes`` at ``allowed`` places: replaced, removed, repeated, retyped, edited, exchanged.

    ``values``: what takes the place of a part, beside other parts of the document. It may have fields called ``DOUBLE`` something.
    """
    whole = [copy.deepcopy(document)]
    for _ in range(draw(st.integers(0 if changes > 1 else 1, changes))):
        paths = [path for path in places(whole) if path and allowed(path[1:])]
        *above, last = path = draw(st.sampled_from(paths))
        parent = at(whole, tuple(above))
        kinds = ("replace", "retype", "remove", "repeat", "edit", "exchange", "double") if above else ("replace", "retype")
        kind = draw(st.sampled_from(kinds))
        another = st.sampled_from(values) | st.sampled_from(list(places(whole))).map(lambda other: at(whole, other))
        if kind == "remove":
            del parent[last]
        elif kind == "repeat" and isinstance(parent, list):
            parent.insert(draw(st.integers(0, len(parent))), copy.deepcopy(parent[last]))
        elif kind in ("repeat", "double") and isinstance(parent, dict):
            name = draw(st.sampled_from((*NAMES, *parent))) if kind == "repeat" else f"{DOUBLE}{last}"
            parent[name] = copy.deepcopy(draw(st.just(parent[last]) | another))
        elif kind == "retype":
            parent[last] = draw(_retyped(parent[last]))
        elif kind == "edit" and isinstance(parent[last], str):
            parent[last] = draw(_text(parent[last]))
        elif kind == "exchange":
            beside = draw(st.sampled_from([p for p in paths if p[:-1] == path[:-1]]))[-1]
            parent[last], parent[beside] = parent[beside], parent[last]
        else:
            parent[last] = copy.deepcopy(draw(another))
    return whole[0]


def singles(document: Any, allowed: Callable[[Path], bool] = bool) -> Iterator[Any]:
    """``document`` with each of its parts, one at a time, removed, repeated, and replaced by what differs from it the least."""
    for *above, last in (path for path in places(document) if path and allowed(path)):
        for kind in ("remove", "repeat", "alter"):
            changed = copy.deepcopy(document)
            parent = at(changed, tuple(above))
            if kind == "remove":
                del parent[last]
            elif kind == "alter":
                parent[last] = _altered(parent[last])
            elif isinstance(parent, list):
                parent.insert(last, copy.deepcopy(parent[last]))
            else:
                parent[f"{DOUBLE}{last}"] = parent[last]
            yield changed


def _altered(value: Any) -> Any:
    if isinstance(value, str):
        text = value.rstrip("=")  # of base64 in which bits are left over, the last character has them
        return (text[:-1] + chr(ord(text[-1]) + 1) if text else "x") + value[len(text) :]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return [*value, {}] if isinstance(value, list) else {**value, "x": 1} if isinstance(value, dict) else [value]


def plain(document: Any) -> bytes:
    """``document`` as JSON, the one way this package writes it, but for fields called ``DOUBLE`` something."""
    return strictjson.dumps(document).replace(f'"{DOUBLE}'.encode(), b'"')


def written(document: Any) -> st.SearchStrategy[bytes]:
    """``document`` as JSON: every second time the one way this package writes it."""
    loose = [json.dumps(document).encode(), json.dumps(document, indent=1).encode(), json.dumps(document, separators=(",", ":")).encode()]
    return st.just(plain(document)) | st.sampled_from([data.replace(f'"{DOUBLE}'.encode(), b'"') for data in loose])


@st.composite
def bundles(draw: st.DrawFn, data: bytes) -> bytes:
    """A bundle changed within its JSON, or within that of its payload."""
    bundle = json.loads(data)
    envelope = bundle["dsseEnvelope"]
    if draw(st.booleans()):
        bundle = draw(restructured(bundle))
    else:
        payload = draw(restructured(json.loads(base64.b64decode(envelope["payload"]))).flatmap(written))
        envelope["payload"] = base64.b64encode(payload).decode()
    return draw(written(bundle))


def single_bundles(data: bytes, *, within: bool = True) -> Iterator[bytes]:
    """A bundle written in other ways, and with each part of its JSON changed as ``singles`` does, and ``within`` each of its payload's."""
    bundle = json.loads(data)
    yield from (json.dumps(bundle).encode(), json.dumps(bundle, separators=(",", ":"), sort_keys=True).replace("/", "\\/").encode())
    yield from map(plain, singles(bundle))
    if not within:
        return
    for payload in singles(json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))):
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(plain(payload)).decode()
        yield plain(bundle)


@st.composite
def lined(draw: st.DrawFn, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """A file of one bundle a line with its lines moved, dropped, repeated, changed within, or with some of ``others`` added."""
    lines = data.split(b"\n")[:-1]
    for _ in range(draw(st.integers(0, 2))):
        kind = draw(st.sampled_from(("move", "drop", "repeat", "change", "add")))
        line = lines.pop(draw(st.integers(0, len(lines) - 1))) if lines else b""
        if kind == "change" and line and line in data:
            line = draw(bundles(line))
        back = {"drop": [], "repeat": [line, line], "add": [line, draw(st.sampled_from((b"", *others)))]}.get(kind, [line])
        for one in back:
            lines.insert(draw(st.integers(0, len(lines))), one)
    return b"".join(line + b"\n" for line in lines)
