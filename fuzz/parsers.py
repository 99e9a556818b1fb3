"""Hostile bytes for what is read before anybody is trusted: what stands in a release, and the files that say whom to trust.

    python fuzz/parsers.py bundle --seconds 60        or: make fuzz

The targets are in ``targets.py``. Without ``--guided`` good documents are changed at random; with it, atheris (the extra ``fuzz``)
is guided by coverage. A target may refuse in the words of ``reasons.py``, and nothing else: any other exception ends the run and
leaves the input beside this file.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from targets import Target

HERE = Path(__file__).parent
ENCODED = re.compile(rb'"(?:payload|rawBytes|canonicalizedBody|sig)": ?"([^"]*)"')
TOKENS = (
    b"{}", b"[]", b"null", b"true", b"-1", b"1e999", b"NaN", b'""', b'"\\ud800"', b",", b":", b'"', b"\\", b"\xff", b"\x00", b"\n", b"=",
    b"[" * 99, b'"sha256"', b'"../x"', b'"annotations":{},', b'"keyid":"x",', b"9" * 5000, "\u202e".encode(), "e\u0301".encode(), b"AAAA",
    b"[[key]]\n", b"[key]\n", b'"""', b"'", b"*", b"#", b"inf", b"0x7", b"2026-01-01T00:00:00Z", b"0001-01-01T00:00:00+23:59", b"a.b = 1\n",
    b"0x" + b"f" * 5000,
)  # fmt: skip


def loaded(name: str, guided: bool) -> dict[str, Target]:
    """The targets by name; ``guided``: with all that the one called ``name`` calls instrumented, which must not be imported before."""
    if not guided:
        return import_module("targets").TARGETS
    try:
        import atheris
    except ImportError:
        sys.exit("--guided needs atheris: pip install -c constraints.txt -e '.[all,fuzz]' (Linux on x86-64, Python 3.11 to 3.13)")
    with atheris.instrument_imports(include=["safeflux_signing", "sigstore", "tomllib"]):
        targets: dict[str, Target] = import_module("targets").TARGETS
        for data in targets[name].seeds if name in targets else ():
            targets[name].check(data)  # some of it is imported when it is called
    return targets


def one(target: Target, data: bytes) -> bool:
    """Whether the target read ``data``. Anything but a refusal in its own words is a defect, and leaves the input."""
    try:
        target.check(data)
    except target.refusal:
        return False
    except BaseException:
        file = HERE / f"crash-{hashlib.sha256(data).hexdigest()[:16]}"
        file.write_bytes(data)
        print(f"{target.check.__name__} did not refuse in its own words; the input is in {file}", file=sys.stderr)
        raise
    return True


def changed(data: bytes, rng: random.Random) -> bytes:
    """``data`` after one to four changes; every third time inside a field in base64, which is right again after that."""
    fields = list(ENCODED.finditer(data))
    if fields and rng.random() < 0.3:
        field = rng.choice(fields)
        with suppress(ValueError):  # it may be no base64 any more
            return data[: field.start(1)] + base64.b64encode(changed(base64.b64decode(field[1]), rng)) + data[field.end(1) :]
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice([0, 0, 1, 1, 2, 8, 40]))
        piece = rng.choice([rng.choice(TOKENS), data[end : end + rng.randrange(60)], bytes([rng.randrange(256)]), b""])
        data = data[:start] + piece + data[end:]
    return data


def inputs(target: Target, seed: int) -> Iterator[bytes]:
    """Changed seeds of the target without end, the same for the same ``seed``."""
    rng = random.Random(seed)
    while True:
        yield changed(rng.choice(target.seeds), rng)


def at_random(name: str, target: Target, seconds: float, seed: int) -> None:
    tried, read, stop = 0, 0, time.monotonic() + seconds
    for data in inputs(target, seed):
        read += one(target, data)
        tried += 1
        if time.monotonic() > stop:
            break
    print(json.dumps({"target": name, "seed": seed, "tried": tried, "read": read}))


def guided(target: Target, seconds: float, seed: int) -> None:
    """Half of the changes are ``changed``'s: libFuzzer's own would not get into a payload."""
    import atheris

    def mutator(data: bytes, limit: int, number: int) -> bytes:
        rng = random.Random(number)
        return (changed(data, rng) if rng.random() < 0.5 else atheris.Mutate(data, limit))[:limit]

    with tempfile.TemporaryDirectory() as corpus:
        if child := os.fork():  # libFuzzer ends the process in which it runs, and would leave the directory
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        for number, data in enumerate(target.seeds):
            Path(corpus, str(number)).write_bytes(data)
        options = [f"-max_total_time={seconds:.0f}", f"-seed={seed}", f"-max_len={8000 + max(map(len, target.seeds))}"]
        options += [f"-artifact_prefix={HERE / 'crash-'}", corpus]
        atheris.Setup([sys.argv[0], *options], lambda data: one(target, data) and None, custom_mutator=mutator)
        atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description="Hostile bytes for the parsers of a release.")
    parser.add_argument("target", help="what reads them; any other name lists all")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**31, help="printed at the end; the same seed tries the same inputs")
    parser.add_argument("--guided", action="store_true", help="by coverage, with atheris; fails where it is not installed")
    arguments = parser.parse_args()
    targets = loaded(arguments.target, arguments.guided)
    if (target := targets.get(arguments.target)) is None:
        parser.error(f"{arguments.target!r} is none of {', '.join(targets)}")
    if not all(one(target, data) for data in target.seeds):
        sys.exit(f"{arguments.target} refuses a good document")
    if arguments.guided:
        guided(target, arguments.seconds, arguments.seed)
    else:
        at_random(arguments.target, target, arguments.seconds, arguments.seed)


if __name__ == "__main__":
    main()
