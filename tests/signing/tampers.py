"""Hands that tamper with a signed release; ``battery.py`` lists what they do."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from safeflux_signing import commitments, dsse, manifest, strictjson
from safeflux_signing.commitments import Commitment, Fixed
from safeflux_signing.keys import PrivateKey

WEIGHTS, SIGNATURE, CLAIMS, COSIGNED = "transformer/weights.safetensors", "model.sig", "claims.jsonl", "signatures.jsonl"
AUDITOR, STRANGER = (ec.derive_private_key(number, ec.SECP256R1()) for number in (7, 8))


@dataclass(frozen=True)
class Tamper:
    """``what`` was done, by ``do(release, key)``. ``stock``: whether model_signing accepts it, given ``options``.

    ``cosigned``: to a release that an auditor has signed, too, before users who ask for both signatures.
    """

    what: str
    do: Callable[[Path, PrivateKey], object]
    stock: bool = False
    options: tuple[str, ...] = ()
    cosigned: bool = False


def change(name: str, edit: Callable[[bytes], bytes]) -> Callable[[Path, PrivateKey], object]:
    return lambda release, _: (release / name).write_bytes(edit((release / name).read_bytes()))


def add(name: str, data: bytes = b"evil") -> Callable[[Path, PrivateKey], object]:
    def do(release: Path, _: PrivateKey) -> None:
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).write_bytes(data)

    return do


def outside(release: Path) -> Path:
    """A directory beside the release, with a copy of everything."""
    return Path(shutil.copytree(release, release.parent / "outside"))


def link(name: str, *, dangling: bool = False) -> Callable[[Path, PrivateKey], object]:
    """A link to the same content in place of a file or directory."""

    def do(release: Path, _: PrivateKey) -> None:
        copy = outside(release) / name
        shutil.rmtree(release / name) if copy.is_dir() else (release / name).unlink()
        (release / name).symlink_to(release / "nowhere" if dangling else copy)

    return do


def hard_link(name: str) -> Callable[[Path, PrivateKey], object]:
    """A second name of a file outside, which holds the same, in place of a file."""

    def do(release: Path, _: PrivateKey) -> None:
        copy = outside(release) / name
        (release / name).unlink()
        (release / name).hardlink_to(copy)

    return do


def swap(release: Path, _: PrivateKey) -> None:
    one, two = release / "a-b", release / "a" / "x"
    a, b = one.read_bytes(), two.read_bytes()
    one.write_bytes(b)
    two.write_bytes(a)


def pipe(release: Path, _: PrivateKey) -> None:
    (release / "a-b").unlink()
    os.mkfifo(release / "a-b")


def linked_payload(release: Path, _: PrivateKey) -> None:
    (release / "more").symlink_to(outside(release))


def bundle(edit: Callable[[dict[str, Any]], object]) -> Callable[[Path, PrivateKey], object]:
    """Another bundle around the same payload, written the one way bundles are written."""

    def do(release: Path, _: PrivateKey) -> None:
        data = json.loads((release / SIGNATURE).read_bytes())
        edit(data)
        (release / SIGNATURE).write_bytes(strictjson.dumps(data) + b"\n")

    return do


def payload(data: dict[str, Any], edit: Callable[[bytes], bytes]) -> None:
    envelope = data["dsseEnvelope"]
    envelope["payload"] = base64.b64encode(edit(base64.b64decode(envelope["payload"]))).decode()


def resigned(edit: Callable[[dict[str, Any]], object]) -> Callable[[Path, PrivateKey], object]:
    """Another manifest under the right key: what a thief of the key or a careless tool could do. ``edit`` may return raw bytes."""

    def do(release: Path, key: PrivateKey) -> None:
        statement = json.loads(dsse.loads((release / SIGNATURE).read_bytes(), SIGNATURE).payload)
        edited = edit(statement)
        raw = edited if isinstance(edited, bytes) else strictjson.dumps(statement)
        (release / SIGNATURE).write_bytes(dsse.dumps(dsse.seal(raw, key)) + b"\n")

    return do


def listing(statement: dict[str, Any], entries: list[manifest.Entry]) -> None:
    """Have the manifest list ``entries``, with the digests that belong to them."""
    statement["predicate"]["resources"] = [{"name": e.name, "digest": e.sha256, "algorithm": "sha256"} for e in entries]
    statement["subject"][0]["digest"] = manifest.subject_digests(entries)


def listed(statement: dict[str, Any]) -> list[manifest.Entry]:
    return [manifest.Entry(one["name"], one["digest"]) for one in statement["predicate"]["resources"]]


def ignore_everything(statement: dict[str, Any]) -> None:
    statement["predicate"]["serialization"]["ignore_paths"] += [entry.name for entry in listed(statement)]
    listing(statement, [])


def escape(release: Path, key: PrivateKey, name: str) -> None:
    target = release.parent / "secret"
    target.write_bytes(b"")
    empty = next(entry.sha256 for entry in _entries(release) if entry.name == "empty.txt")
    resigned(lambda s: listing(s, sorted([*listed(s), manifest.Entry(name.format(target), empty)], key=lambda e: e.name)))(release, key)


def _entries(release: Path) -> list[manifest.Entry]:
    return listed(json.loads(dsse.loads((release / SIGNATURE).read_bytes(), SIGNATURE).payload))


def second_signature(data: dict[str, Any]) -> None:
    data["dsseEnvelope"]["signatures"].append({"sig": "AAAA", "keyid": ""})


def time_stamp(data: dict[str, Any]) -> None:
    data["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": [{"signedTimestamp": "AAAA"}]}


def two_types(statement: dict[str, Any]) -> bytes:
    return b'{"predicateType":1,' + strictjson.dumps(statement)[1:]


def twice(statement: dict[str, Any]) -> None:
    """The first file listed twice, with a wrong digest first."""
    entries = listed(statement)
    listing(statement, [manifest.Entry(entries[0].name, "00" * 32), *entries])


def outdated(release: Path, key: PrivateKey) -> None:
    """The manifest of model_signing before 1.0: the files are the subjects, and what is signed is encoded in another way."""
    sums = {entry.name: entry.sha256 for entry in _entries(release)} | {CLAIMS: hashlib.sha256((release / CLAIMS).read_bytes()).hexdigest()}
    subjects = [{"name": name, "digest": {"sha256": digest}} for name, digest in sums.items()]
    raw = strictjson.dumps(
        {"_type": manifest.STATEMENT_TYPE, "subject": subjects, "predicateType": manifest.OUTDATED_TYPE, "predicate": {"unused": "x"}}
    )
    encoded = f"DSSEV1 {len(dsse.PAYLOAD_TYPE)} {dsse.PAYLOAD_TYPE} {len(raw)} {raw!r}".encode()
    signature = key.sign(encoded, ec.ECDSA(hashes.SHA256()))
    hint = dsse.loads((release / SIGNATURE).read_bytes(), SIGNATURE).hint
    (release / SIGNATURE).write_bytes(dsse.dumps(dsse.Bundle(raw, signature, hint)) + b"\n")


def claims(edit: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path, PrivateKey], object]:
    return change(CLAIMS, lambda data: b"".join(edit(data.splitlines(keepends=True))))


def commitment(release: Path, key: PrivateKey) -> None:
    """One by the publisher itself, which the signature of this release does not require."""
    line = commitments.seal(Commitment("policy", Fixed("00" * 32, datetime(2026, 1, 1, tzinfo=UTC))), key)
    change(CLAIMS, lambda data: data + line)(release, key)


def cosignatures(edit: Callable[[bytes, bytes], bytes]) -> Callable[[Path, PrivateKey], object]:
    """The file of co-signatures after ``edit``, which is given the publisher's signature and what stands there."""
    return lambda release, _: (release / COSIGNED).write_bytes(edit((release / SIGNATURE).read_bytes(), (release / COSIGNED).read_bytes()))


def sealed(payload: bytes, key: PrivateKey) -> bytes:
    return dsse.dumps(dsse.seal(payload, key)) + b"\n"


def again(line: bytes, key: PrivateKey, edit: Callable[[bytes], bytes] = lambda payload: payload) -> bytes:
    """What ``line`` signs, signed by ``key`` after ``edit``."""
    return sealed(edit(dsse.loads(line.splitlines()[0], COSIGNED).payload), key)


def exchange_signatures(release: Path, _: PrivateKey) -> None:
    (release / SIGNATURE).rename(release / "old")
    (release / COSIGNED).rename(release / SIGNATURE)
    (release / "old").rename(release / COSIGNED)


def cosigned_link(release: Path, _: PrivateKey) -> None:
    (release / COSIGNED).rename(release.parent / "elsewhere")
    (release / COSIGNED).symlink_to(release.parent / "elsewhere")


def repacked(line: bytes, edit: Callable[[bytes], bytes]) -> bytes:
    """The line with another payload under the old signature."""
    data = json.loads(line)
    payload(data, edit)
    return strictjson.dumps(data) + b"\n"


def claim_of(line: bytes) -> bytes:
    """A claim about the release whose manifest ``line`` signs."""
    [subject] = json.loads(dsse.loads(line, SIGNATURE).payload)["subject"]
    return manifest.statement("release", subject["digest"], "https://example.org/audit/v1", {})
