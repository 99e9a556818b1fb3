"""Hostile manifests under a good signature: a stolen key must not turn the verifier into a weapon."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tampers
from signed_release import codes

from safeflux_signing import dsse, manifest, strictjson
from safeflux_signing.errors import SigningError, UnsafeReleaseError
from safeflux_signing.keys import PrivateKey
from safeflux_signing.unverified import look
from safeflux_signing.verify import verify

Refuse = Callable[[Path], SigningError]
Resign = Callable[[Path, Callable[[Any], Any]], None]
FILE = "model.sig"


def _resources(s: Any) -> Any:
    return s["predicate"]["resources"]


def _serialization(s: Any) -> Any:
    return s["predicate"]["serialization"]


def _ours(s: Any) -> Any:
    return s["subject"][0]["annotations"]["safeflux"]


def _named(name: str) -> Callable[[Any], Any]:
    return lambda s: _resources(s)[0].update(name=name)


HOSTILE: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "empty": (FILE, "manifest-empty", lambda s: _resources(s).clear()),
    "parent directory": ("../outside", "name-parent", _named("../outside")),
    "parent inside": ("a/../b", "name-parent", _named("a/../b")),
    "absolute": ("/etc/passwd", "name-absolute", _named("/etc/passwd")),
    "dot": ("./a-b", "name-unsafe", _named("./a-b")),
    "double slash": ("a//x", "name-unsafe", _named("a//x")),
    "backslash": ("a\\x", "name-backslash", _named("a\\x")),
    "control character": ("a\nb", "name-control", _named("a\nb")),
    "not NFC": ("e\u0301", "name-not-nfc", _named("e\u0301")),
    "empty name": ("", "name-unsafe", _named("")),
    "signature as content": ("model.sig", "name-reserved", _named("model.sig")),
    "reserved directory": ("signatures/x", "name-reserved", _named("signatures/x")),
    "equal but for case": ("empty.txt", "name-collision", _named("EMPTY.txt")),
    "a file twice": (FILE, "manifest-repeats", lambda s: _resources(s).append(_resources(s)[0])),
    "out of order": (FILE, "manifest-order", lambda s: _resources(s).reverse()),
    "name not text": (FILE, "statement-shape", lambda s: _resources(s)[0].update(name=1)),
    "resource not an object": (FILE, "statement-shape", lambda s: _resources(s).append("x")),
    "another algorithm": (FILE, "manifest-hash", lambda s: _resources(s)[0].update(algorithm="md5")),
    "short digest": (FILE, "manifest-hash", lambda s: _resources(s)[0].update(digest="00")),
    "upper-case digest": (FILE, "manifest-hash", lambda s: _resources(s)[0].update(digest="A" * 64)),
    "another hash": (FILE, "manifest-hash", lambda s: _serialization(s).update(hash_type="blake3")),
    "shards": (FILE, "manifest-method", lambda s: _serialization(s).update(method="shards", shard_size=10)),
    "symlinks allowed": (FILE, "manifest-symlinks", lambda s: _serialization(s).update(allow_symlinks=True)),
    "zero for false": (FILE, "manifest-symlinks", lambda s: _serialization(s).update(allow_symlinks=0)),
    "wrong root digest": (FILE, "manifest-digest", lambda s: s["subject"][0]["digest"].update(sha256="0" * 64)),
    "wrong directory hash": (FILE, "manifest-digest", lambda s: s["subject"][0]["digest"].update(dirHash1="0" * 64)),
    "no directory hash": (FILE, "manifest-digest", lambda s: s["subject"][0]["digest"].pop("dirHash1")),
    "two subjects": (FILE, "statement-shape", lambda s: s["subject"].append(s["subject"][0])),
    "nameless subject": (FILE, "statement-shape", lambda s: s["subject"][0].update(name="")),
    "another statement type": (FILE, "statement-shape", lambda s: s.update(_type="https://in-toto.io/Statement/v0.1")),
    "unknown statement field": (FILE, "statement-shape", lambda s: s.update(extra=1)),
    "unknown predicate field": (FILE, "statement-shape", lambda s: s["predicate"].update(extra=1)),
    "annotations no object": (FILE, "statement-shape", lambda s: s["subject"][0].update(annotations=[])),
    "format before 1.0": (FILE, "predicate-outdated", lambda s: s.update(predicateType=manifest.OUTDATED_TYPE)),
    "format before 1.0, the files its subjects": (
        FILE,
        "predicate-outdated",
        lambda s: s.update(predicateType=manifest.OUTDATED_TYPE, subject=[_resources(s)[0], _resources(s)[1]]),
    ),
    "a claim as manifest": (FILE, "predicate-type", lambda s: s.update(predicateType="https://slsa.dev/provenance/v1")),
    "unknown release format": (FILE, "release-format", lambda s: _ours(s).update(format=2)),
    "true for one": (FILE, "release-format", lambda s: _ours(s).update(format=True)),
    "release field missing": (FILE, "release-format", lambda s: _ours(s).pop("sequence")),
    "release field unknown": (FILE, "release-format", lambda s: _ours(s).update(more=1)),
    "negative sequence": (FILE, "release-format", lambda s: _ours(s).update(sequence=-1)),
    "sequence as text": (FILE, "release-format", lambda s: _ours(s).update(sequence="3")),
    "no such day": (FILE, "release-format", lambda s: _ours(s).update(created="2026-02-30T00:00:00Z")),
    "release name no text": (FILE, "release-format", lambda s: _ours(s).update(name=7)),
    "release name null": (FILE, "release-format", lambda s: _ours(s).update(name=None)),
    "release name not in its id": (FILE, "release-format", lambda s: _ours(s).update(name="other")),
    "release id with escapes": (FILE, "release-format", lambda s: _ours(s).update(releaseId="\x1b[2J")),
    "required claim without digest": (FILE, "release-format", lambda s: _ours(s)["requiredClaims"][0].pop("payloadSha256")),
    "required claim with half a digest": (FILE, "release-format", lambda s: _ours(s)["requiredClaims"][0].update(payloadSha256="ab")),
    "duplicate key": (FILE, "json-duplicate-key", lambda s: strictjson.dumps(s).replace(b"{", b'{"predicateType":"x",', 1)),
    "lone surrogate": (FILE, "json-invalid", lambda s: strictjson.dumps(s).replace(b"demo-1.0", b"\\ud800")),
    "deep": (FILE, "json-too-deep", lambda s: b'{"_type":' + b"[" * 65 + b"]" * 65 + b"}"),
    "not JSON": (FILE, "json-invalid", lambda s: b"manifest"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_manifest_is_refused_although_its_signature_is_good(release: Path, refused: Refuse, resign: Resign, name: str) -> None:
    file, code, edit = HOSTILE[name]
    resign(release, edit)
    assert codes(refused(release)) == {(file, code)}


def test_the_format_before_1_0_is_named_though_its_signatures_are_over_other_bytes(
    release: Path, key: PrivateKey, other: PrivateKey
) -> None:
    tampers.outdated(release, key)
    for trusted in (key, other):
        with pytest.raises(UnsafeReleaseError) as caught:
            verify(release, [trusted.public_key()])
        assert codes(caught.value) == {(FILE, "predicate-outdated")}
    assert [finding.code for finding in look(release).troubles if finding.file == FILE] == ["predicate-outdated"]


def test_what_only_mentions_that_format_has_a_wrong_signature(release: Path, refused: Refuse) -> None:
    bundle = dsse.loads((release / FILE).read_bytes(), FILE)
    named = manifest.OUTDATED_TYPE.encode()
    for payload in (
        bundle.payload.replace(b"demo-1.0", named),
        bundle.payload + named,
        b'{"predicateType":["%s"]}' % named,
        b'["%s"]' % named,
    ):
        (release / FILE).write_bytes(dsse.dumps(replace(bundle, payload=payload)) + b"\n")
        assert codes(refused(release)) == {(FILE, "signature-invalid")}


def test_a_signed_list_of_exceptions_is_never_trusted(release: Path, refused: Refuse, resign: Resign) -> None:
    resign(release, lambda s: _serialization(s).update(ignore_paths=["evil.py", "a-b", "."]))
    (release / "evil.py").write_text("")
    (release / "a-b").write_text("other")
    assert codes(refused(release)) == {("evil.py", "file-added"), ("a-b", "file-changed")}


def test_fields_that_oms_lets_a_resource_have_are_ignored(release: Path, resign: Resign, key: PrivateKey) -> None:
    before = verify(release, [key.public_key()]).entries
    resign(release, lambda s: _resources(s)[0].update(mediaType="text/plain"))
    assert verify(release, [key.public_key()]).entries == before


def test_the_stock_order_by_path_parts_is_accepted(release: Path, refused: Refuse, resign: Resign, key: PrivateKey) -> None:
    """model_signing puts a/x before a-b, OMS after it; the root digest follows the order, and the claims with it."""

    def stock(s: Any) -> None:
        _resources(s).sort(key=lambda resource: resource["name"].split("/"))
        root = hashlib.sha256(b"".join(bytes.fromhex(resource["digest"]) for resource in _resources(s)))
        s["subject"][0]["digest"]["sha256"] = root.hexdigest()
        _ours(s)["requiredClaims"].clear()

    resign(release, stock)
    assert {finding.code for finding in refused(release).findings} == {"claim-subject"}
    (release / "claims.jsonl").unlink()
    names = [entry.name for entry in verify(release, [key.public_key()]).entries]
    assert names.index("a/x") < names.index("a-b")


def test_a_release_signed_by_another_tool_says_nothing_of_itself(release: Path, resign: Resign, key: PrivateKey) -> None:
    def foreign(s: Any) -> None:
        s["subject"][0].pop("annotations")
        s["subject"][0]["digest"].pop("dirHash1")

    (release / "claims.jsonl").unlink()
    resign(release, foreign)
    verified = verify(release, [key.public_key()])
    assert verified.release is None
    assert verified.claims == ()
