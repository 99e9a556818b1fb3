"""Work that anybody can make: before there is a key to believe, a file is refused for its size without being gone through."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from signed_release import codes

from safeflux_signing import linefiles, strictjson, trustchanges
from safeflux_signing.errors import InputError, SigningError, UnsafeReleaseError
from safeflux_signing.keys import PrivateKey
from safeflux_signing.sign import add_claim, sign
from safeflux_signing.trust import TrustStore
from safeflux_signing.verify import MAX_SIGNATURE, verify

Refuse = Callable[[Path], SigningError]
LINES = ["claims.jsonl", "signatures.jsonl"]


@contextmanager
def _soon(seconds: float = 10) -> Iterator[None]:
    """Many times longer than it takes, and far less than what it would take without a bound."""
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < seconds


@pytest.mark.parametrize("name", LINES)
def test_many_lines_are_refused_at_once(release: Path, refused: Refuse, name: str) -> None:
    with (release / name).open("ab") as stream:
        stream.write(b"\n" * (60 << 20))
    with _soon():
        error = refused(release)
    assert [(finding.file, finding.code) for finding in error.findings] == [(name, "too-large")]


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize(
    ("lines", "told", "left"), [(1000, 100, "; the other 900 lines were not looked at"), (101, 100, "; the other 1 "), (100, 100, None)]
)
def test_of_many_wrong_lines_the_first_are_named(
    release: Path, refused: Refuse, name: str, lines: int, told: int, left: str | None
) -> None:
    (release / name).write_bytes(b"{}\n" * lines)
    found = [finding.what for finding in refused(release).findings if (finding.file, finding.code) == (name, "bundle-shape")]
    assert [what.split(":")[0] for what in found] == [f"line {number}" for number in range(1, told + 1)]
    assert "not looked at" not in "".join(found[:-1])
    assert (left or "lacks dsseEnvelope, mediaType, verificationMaterial") in found[-1]


def test_claims_that_were_not_looked_at_are_not_called_missing(release: Path, refused: Refuse) -> None:
    path = release / "claims.jsonl"
    path.write_bytes(b"{}\n" * 500 + path.read_bytes())
    assert codes(refused(release)) == {("claims.jsonl", "bundle-shape")}


def test_as_many_lines_as_are_read_can_be_written_and_no_more(bare: Path, key: PrivateKey) -> None:
    claims = [("urn:x", number) for number in range(linefiles.MAX_LINES + 1)]
    with pytest.raises(InputError) as many:
        sign(bare, key, release_id="x", sequence=0, claims=claims)
    assert codes(many.value) == {("claims.jsonl", "release-field")}
    sign(bare, key, release_id="x", sequence=0, claims=claims[:-1])
    assert len(verify(bare, [key.public_key()]).claims) == linefiles.MAX_LINES
    before = (bare / "claims.jsonl").read_bytes()
    with pytest.raises(UnsafeReleaseError) as full:
        add_claim(bare, key, [key.public_key()], claims[-1])
    assert codes(full.value) == {("claims.jsonl", "too-large")}
    assert (bare / "claims.jsonl").read_bytes() == before


def test_a_statement_of_many_lines_is_refused() -> None:
    with _soon(), pytest.raises(UnsafeReleaseError) as caught:
        trustchanges._signers(TrustStore(), b"\n" * (60 << 20), "x")
    assert codes(caught.value) == {("x", "too-large")}


BOMBS = {
    "empty lists": b"[" + b"[]," * (10 << 20) + b"0]",
    "numbers": b'{"mediaType":[' + b"1," * (10 << 20) + b"1]}",
    "after a text that could hide them": b'{"mediaType":"\\\\",' + b'"":{},' * (2 << 20) + b'"a":0}',
}


@pytest.mark.parametrize("what", BOMBS)
@pytest.mark.parametrize("name", ["model.sig", "claims.jsonl"])
def test_an_envelope_of_many_values_is_refused_at_once(release: Path, refused: Refuse, what: str, name: str) -> None:
    (release / name).write_bytes(BOMBS[what] + b"\n")
    with _soon(5):
        assert (name, "json-too-large") in codes(refused(release))


def test_values_are_counted_and_not_what_stands_in_texts() -> None:
    five = b'{"a":[1,"\\",[{,"],",{[\\\\":{"":""}}'
    assert strictjson.loads(five, "x", 6)
    with pytest.raises(UnsafeReleaseError) as caught:
        strictjson.loads(five, "x", 5)
    assert codes(caught.value) == {("x", "json-too-large")}


def test_a_text_without_an_end_takes_no_longer_than_one_with_it() -> None:
    with _soon(5), pytest.raises(UnsafeReleaseError):
        strictjson.loads(b'[,,,"' + b'\\"' * (4 << 20), "x", 3)


def test_every_manifest_that_fits_into_a_signature_has_few_enough_values() -> None:
    shortest = strictjson.dumps([{"name": "a", "digest": "0" * 64, "algorithm": "sha256"}])
    assert strictjson._values(shortest) == 5
    assert strictjson.loads(shortest, "x", 5)
    files = MAX_SIGNATURE * 3 // 4 // (len(shortest) - 1)
    assert files * 4 < strictjson.MAX_VALUES


def test_what_is_said_of_a_long_key_is_short() -> None:
    key = b"x" * 10**6
    with pytest.raises(UnsafeReleaseError) as caught:
        strictjson.loads(b'{"%s":1,"%s":2}' % (key, key), "x")
    assert codes(caught.value) == {("x", "json-duplicate-key")}
    assert len(str(caught.value)) < 1000
