"""Whatever stands in a signed document, reading it ends well or in a SigningError: never in a crash."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from safeflux_signing import claims, dsse, manifest, strictjson
from safeflux_signing.errors import SigningError
from safeflux_signing.keys import PrivateKey

ROUNDS = 1500
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**70,
    1.5,
    "",
    "x",
    "0" * 64,
    [],
    {},
    [{}],
    [[]],
    {"a": 1},
    "\x00",
    "../x",
    "2026-13-01T00:00:00Z",
    "\u00e9",
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every part of a JSON value but the whole."""
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from _places(value[key], (*path, key))


def _mutate(document: Any, rng: random.Random) -> bytes:
    """``document`` as JSON with one part replaced, removed or added, and sometimes one byte of it overwritten."""
    changed = copy.deepcopy(document)
    *path, last = rng.choice(list(_places(changed)))
    at = changed
    for key in path:
        at = at[key]
    how = rng.random()
    if how < 0.6:
        at[last] = copy.deepcopy(rng.choice(VALUES))
    elif how < 0.8:
        del at[last]
    elif isinstance(at, dict):
        at[rng.choice(["a", "name", "digest", ""])] = rng.choice(VALUES)
    else:
        at.insert(0, rng.choice(VALUES))
    data = bytearray(strictjson.dumps(changed))
    if rng.random() < 0.2:
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


@pytest.mark.parametrize("what", ["bundle", "manifest", "claim"])
def test_a_mutated_document_is_read_or_refused(release: Path, key: PrivateKey, what: str) -> None:
    bundle = (release / "model.sig").read_bytes()
    payload = dsse.loads(bundle, "x").payload
    signed = manifest.loads(payload, "x")
    claim = dsse.loads((release / "claims.jsonl").read_bytes().splitlines()[0], "x").payload

    def read_claim(data: bytes) -> object:
        line = dsse.dumps(dsse.seal(data, key)) + b"\n"
        found, _ = claims.check(line, signed, [key.public_key()])
        if not found:
            raise SigningError([])
        return found

    readers: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
        "bundle": (bundle, lambda data: dsse.loads(data, "x")),
        "manifest": (payload, lambda data: manifest.loads(data, "x")),
        "claim": (claim, read_claim),
    }
    data, read = readers[what]
    read(data)
    rng, refused = random.Random(what), 0
    for _ in range(ROUNDS):
        try:
            read(_mutate(json.loads(data), rng))
        except SigningError:
            refused += 1
    assert refused > ROUNDS // 2
