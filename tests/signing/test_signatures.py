"""Signatures that look almost right, in the manner of the Wycheproof vectors; and signers that do not keep their word."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from signed_release import codes

from safeflux_signing import dsse, keys
from safeflux_signing.errors import InputError, SigningError
from safeflux_signing.keys import PrivateKey
from safeflux_signing.sign import sign
from safeflux_signing.signers import KeySigner
from safeflux_signing.verify import verify

DATA = b"what is signed"
CURVES = [kind for kind in keys.KINDS if kind.startswith("p")]
ED_ORDER = 2**252 + 27742317777372353535851937790883648493
HASH = {"p256": hashes.SHA256(), "p384": hashes.SHA384(), "p521": hashes.SHA512()}


@pytest.fixture(scope="module")
def made() -> dict[str, PrivateKey]:
    return {name: kind.make() for name, kind in keys.KINDS.items()}


def _integer(value: int, pad: int = 0) -> bytes:
    """A DER INTEGER, not minimal where ``pad`` zero bytes are put before it."""
    body = bytes(pad) + value.to_bytes(value.bit_length() // 8 + 1, "big")
    return b"\x02" + bytes([len(body)]) + body


def _sequence(*parts: bytes) -> bytes:
    body = b"".join(parts)
    size = bytes([len(body)]) if len(body) < 128 else b"\x81" + bytes([len(body)])
    return b"\x30" + size + body


def _almost(key: ec.EllipticCurvePrivateKey, kind: str) -> Iterator[tuple[str, bytes]]:
    """Signatures over DATA that are none."""
    good = keys.sign(key, DATA)
    (r, s), order = decode_dss_signature(good), key.curve.group_order
    assert keys.verifies(key.public_key(), _sequence(_integer(r), _integer(s)), DATA)
    values = {
        "r zero": (0, s), "s zero": (r, 0), "both zero": (0, 0), "both one": (1, 1), "s is the order": (r, order),
        "r is the order": (order, s),
        "r too large": (r + order, s), "s too large": (r, s + order), "swapped": (s, r), "r off by one": (r + 1, s),
        "s off by one": (r, s + 1),
        "r mirrored": (order - r, s),
    }  # fmt: skip
    yield from ((name, _sequence(_integer(a), _integer(b))) for name, (a, b) in values.items())
    field = (order.bit_length() + 7) // 8
    body = _integer(r) + _integer(s)
    yield from {
        "empty": b"",
        "an empty sequence": _sequence(),
        "only r": _sequence(_integer(r)),
        "three numbers": _sequence(_integer(r), _integer(s), _integer(1)),
        "r padded": _sequence(_integer(r, 1), _integer(s)),
        "s padded": _sequence(_integer(r), _integer(s, 2)),
        "r negative": _sequence(b"\x02\x01\xff", _integer(s)),
        "s negative": _sequence(_integer(r), b"\x02\x01\x80"),
        "trailing byte": good + b"\x00",
        "trailing byte inside": _sequence(_integer(r), _integer(s), b"\x00"),
        "cut short": good[:-1],
        "long length": b"\x30\x82" + len(body).to_bytes(2, "big") + body,
        "endless length": b"\x30\x80" + body + b"\x00\x00",
        "a set": b"\x31" + good[1:],
        "not DER but r and s": r.to_bytes(field, "big") + s.to_bytes(field, "big"),
        "numbers as texts": _sequence(b"\x04" + _integer(r)[1:], _integer(s)),
        "of other bytes": keys.sign(key, DATA + b"."),
        "of nothing": keys.sign(key, b""),
    }.items()
    for other, algorithm in HASH.items():
        if other != kind:
            yield f"with the hash of {other}", key.sign(DATA, ec.ECDSA(algorithm))


@pytest.mark.parametrize("kind", CURVES)
def test_an_elliptic_signature_that_is_almost_right_is_wrong(made: dict[str, PrivateKey], kind: str) -> None:
    key = made[kind]
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    bad = dict(_almost(key, kind))
    assert len(bad) == 32
    assert [name for name, signature in bad.items() if keys.verifies(key.public_key(), signature, DATA)] == []


@pytest.mark.parametrize("kind", keys.KINDS)
def test_a_flipped_bit_or_another_length_or_algorithm_is_wrong(made: dict[str, PrivateKey], kind: str) -> None:
    key, public = made[kind], made[kind].public_key()
    good = keys.sign(key, DATA)
    assert keys.verifies(public, good, DATA)
    step = 1 if len(good) < 200 else 61
    for place in range(0, len(good), step):
        flipped = good[:place] + bytes([good[place] ^ 1 << place % 8]) + good[place + 1 :]
        assert not keys.verifies(public, flipped, DATA), place
    for other in (b"", good[:-1], good[1:], good + b"\x00", b"\x00" + good, bytes(len(good)), b"\xff" * len(good), good * 2):
        assert not keys.verifies(public, other, DATA)
    for name, stranger in made.items():
        if name != kind:
            assert not keys.verifies(stranger.public_key(), good, DATA)
            assert not keys.verifies(public, keys.sign(stranger, DATA), DATA)


def test_an_edwards_signature_has_one_form_only(made: dict[str, PrivateKey]) -> None:
    """RFC 8032 section 5.1.7: S is below the order of the group. R is not a point of small order under an all-zero S."""
    key = made["ed25519"]
    good = keys.sign(key, DATA)
    s = int.from_bytes(good[32:], "little")
    assert s < ED_ORDER
    for multiple in range(1, 16):
        if (other := s + multiple * ED_ORDER) < 2**256:
            assert not keys.verifies(key.public_key(), good[:32] + other.to_bytes(32, "little"), DATA)
    for r in (bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f", b"\xed" + b"\xff" * 30 + b"\x7f"):
        assert not keys.verifies(key.public_key(), r + bytes(32), DATA)
        assert not keys.verifies(key.public_key(), r + good[32:], DATA)


@pytest.mark.parametrize("kind", keys.KINDS)
def test_what_is_sealed_has_the_one_form(made: dict[str, PrivateKey], kind: str) -> None:
    """Of a hundred payloads about half would have the higher s."""
    key = made[kind]
    for number in range(100 if kind == "p256" else 6):
        bundle = dsse.seal(b"%d" % number, key)
        assert keys.lower(key.public_key(), bundle.signature) == bundle.signature
        if isinstance(key, ec.EllipticCurvePrivateKey):
            assert decode_dss_signature(bundle.signature)[1] <= key.curve.group_order // 2


@pytest.mark.parametrize("name", ["model.sig", "claims.jsonl"])
def test_the_mirrored_signature_is_not_what_was_signed(release: Path, key: PrivateKey, name: str) -> None:
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    first, *rest = (release / name).read_bytes().splitlines(keepends=True)
    bundle = dsse.loads(first, name)
    r, s = decode_dss_signature(bundle.signature)
    mirrored = replace(bundle, signature=encode_dss_signature(r, key.curve.group_order - s))
    assert keys.verifies(key.public_key(), mirrored.signature, dsse.pae(bundle.payload))
    (release / name).write_bytes(b"".join([dsse.dumps(mirrored) + b"\n", *rest]))
    with pytest.raises(SigningError) as caught:
        verify(release, [key.public_key()])
    assert (name, "json-not-canonical") in codes(caught.value)


@dataclass(frozen=True)
class Token:
    """A signer that keeps its key to itself, and may be set up wrongly."""

    key: ec.EllipticCurvePrivateKey
    shown: keys.PublicKey
    algorithm: hashes.HashAlgorithm

    def public_key(self) -> keys.PublicKey:
        return self.shown

    def sign(self, data: bytes, /) -> bytes:
        return self.key.sign(data, ec.ECDSA(self.algorithm))


def test_any_signer_signs_releases_and_claims(bare: Path, made: dict[str, PrivateKey]) -> None:
    key = made["p384"]
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    public = key.public_key()
    sign(bare, Token(key, public, hashes.SHA384()), release_id="x", sequence=0, claims=[("urn:x", {})])
    assert verify(bare, [public]).claims[0].key_id == keys.key_id(public)
    before = (bare / "model.sig").read_bytes(), (bare / "claims.jsonl").read_bytes()
    for wrong in (Token(key, public, hashes.SHA256()), Token(key, made["p521"].public_key(), hashes.SHA384())):
        for claims in ([], [("urn:x", {})]):
            with pytest.raises(InputError) as caught:
                sign(bare, wrong, release_id="x", sequence=1, claims=claims)
            assert {finding.code for finding in caught.value.findings} == {"signer-failed"}
    assert ((bare / "model.sig").read_bytes(), (bare / "claims.jsonl").read_bytes()) == before


def test_a_key_at_hand_and_its_signer_are_the_same(key: PrivateKey) -> None:
    assert dsse.seal(DATA, key) == dsse.seal(DATA, KeySigner(key))
