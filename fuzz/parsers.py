"""Hostile bytes for what is read of a release before anybody is trusted: bundles, manifests, claims.

    python fuzz/parsers.py bundle --seconds 60        or: make fuzz

Guided by coverage where atheris is installed, else by random changes to good documents. A target may refuse in the words of
``reasons.py``, and nothing else: any other exception ends the run and leaves the input beside this file.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

try:
    import atheris
except ImportError:
    atheris = None

with atheris.instrument_imports(include=["safeflux_signing"]) if atheris else nullcontext():
    from safeflux_signing import claims, commitments, dsse, manifest
    from safeflux_signing.errors import SigningError
    from safeflux_signing.names import complaint

HERE = Path(__file__).parent
KEY = ec.derive_private_key(7, ec.SECP256R1())
ENTRIES = tuple(manifest.Entry(name, hashlib.sha256(name.encode()).hexdigest()) for name in ("a-b", "a/x", "model_index.json"))
MOMENT = datetime(2026, 1, 2, tzinfo=UTC)
PROMISE = commitments.seal(commitments.Commitment("p", commitments.Fixed("ab" * 32, MOMENT), (commitments.Fixed("cd" * 32, MOMENT),)), KEY)
MADE = [("urn:a", {"x": [1, 2.5, None]}), ("urn:b", "y")]
CLAIMS, REQUIRED = claims.seal(MADE, "m", manifest.subject_digests(ENTRIES), KEY, PROMISE)
RELEASE = manifest.Release("demo-1.0", 3, MOMENT, REQUIRED)
MANIFEST = manifest.Manifest("m", ENTRIES, RELEASE)
PAYLOAD = manifest.dumps("m", ENTRIES, RELEASE)
TOKENS = [
    *(
        b"{}",
        b"[]",
        b"null",
        b"true",
        b"-1",
        b"1e999",
        b"NaN",
        b'""',
        b'"\\ud800"',
        b",",
        b":",
        b'"',
        b"\\",
        b"\xff",
        b"\x00",
        b"\n",
        b"[" * 99,
    ),
    *(
        b"[" * 99,
        b'"sha256"',
        b'"../x"',
        b'"annotations":{},',
        b'"keyid":"x",',
        b"9" * 5000,
        "\u202e".encode(),
        "e\u0301".encode(),
        b"=",
        b"AAAA",
    ),
]


def bundle(data: bytes) -> None:
    """What is read as a bundle is written and read again as the same one."""
    read = dsse.loads(data, "f")
    assert dsse.loads(dsse.dumps(read), "f") == read


def signed_manifest(data: bytes) -> None:
    """What is read as a manifest lists safe names, and is written and read again as the same one."""
    read = manifest.loads(data, "f")
    assert not any(map(complaint, (entry.name for entry in read.entries)))
    if read.release and list(read.entries) == sorted(read.entries, key=lambda entry: entry.name):
        assert manifest.loads(manifest.dumps(read.name, read.entries, read.release), "f") == read


def commitment(data: bytes) -> None:
    """What is read as a commitment is written and read again as the same one."""
    read = commitments.loads(data, "f")
    assert commitments.line(commitments.seal(read, KEY))[0] == read


def claim_lines(data: bytes) -> None:
    """No claim is taken for signed but those that were, whatever stands around them."""
    taken, findings = claims.check(data, MANIFEST, [KEY.public_key()])
    assert {(claim.predicate_type, claim.payload_sha256) for claim in taken} <= {
        (one.predicate_type, one.payload_sha256) for one in REQUIRED
    }
    assert findings or data == CLAIMS or sorted(data.splitlines()) == sorted(CLAIMS.splitlines())


TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "bundle": (bundle, [dsse.dumps(dsse.seal(PAYLOAD, KEY)), CLAIMS.splitlines()[0]]),
    "manifest": (signed_manifest, [PAYLOAD]),
    "claims": (claim_lines, [CLAIMS]),
    "commitment": (commitment, [commitments.line(PROMISE)[1]]),
}


def one(target: Callable[[bytes], None], data: bytes) -> bool:
    """Whether the target read ``data``. Anything but a refusal in its own words is a defect, and leaves the input."""
    try:
        target(data)
    except SigningError:
        return False
    except BaseException:
        file = HERE / f"crash-{hashlib.sha256(data).hexdigest()[:16]}"
        file.write_bytes(data)
        print(f"{target.__name__} did not refuse in its own words; the input is in {file}", file=sys.stderr)
        raise
    return True


def changed(data: bytes, rng: random.Random) -> bytes:
    """``data`` after one to four changes; every third time inside the payload, under which the base64 is right again."""
    if rng.random() < 0.3 and b'"payload":"' in data:
        head, _, rest = data.partition(b'"payload":"')
        payload, quote, tail = rest.partition(b'"')
        return head + b'"payload":"' + base64.b64encode(changed(base64.b64decode(payload), rng)) + quote + tail
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice([0, 0, 1, 1, 2, 8, 40]))
        piece = rng.choice([rng.choice(TOKENS), data[end : end + rng.randrange(60)], bytes([rng.randrange(256)]), b""])
        data = data[:start] + piece + data[end:]
    return data


def mutate(name: str, seconds: float, seed: int) -> None:
    target, seeds = TARGETS[name]
    rng, tried, read, stop = random.Random(seed), 0, 0, time.monotonic() + seconds
    assert all(one(target, data) for data in seeds)
    while time.monotonic() < stop:
        read += one(target, changed(rng.choice(seeds), rng))
        tried += 1
    print(json.dumps({"target": name, "seed": seed, "tried": tried, "read": read}))


def guided(name: str, seconds: float, seed: int) -> None:
    target, seeds = TARGETS[name]
    with tempfile.TemporaryDirectory() as corpus:
        for number, data in enumerate(seeds):
            Path(corpus, str(number)).write_bytes(data)
        atheris.Setup([sys.argv[0], f"-max_total_time={seconds:.0f}", f"-seed={seed}", corpus], lambda data: one(target, data) and None)
        atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description="Hostile bytes for the parsers of a release.")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**31, help="printed at the end; the same seed tries the same inputs")
    arguments = parser.parse_args()
    (guided if atheris else mutate)(arguments.target, arguments.seconds, arguments.seed)


if __name__ == "__main__":
    main()
