"""Signing keys: made, stored, read, identified.

A key stands in a PEM file: PKCS#8, normally encrypted, for the private one; SubjectPublicKeyInfo for the public one. New
keys are on P-256 unless asked otherwise, which every OpenSSF Model Signing verifier must know. The stock ``model_signing``
tool verifies ECDSA on P-256, P-384 and P-521 and nothing else: what Ed25519 or ML-DSA-65 signed, only this package verifies.

ECDSA (RFC 6979, with the lower of the two possible s) and Ed25519 are deterministic: the same key and the same bytes give
the same signature, so a release can be signed again and compared byte by byte. ML-DSA signatures differ each time.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from safeflux_signing import pbes2, smallfiles
from safeflux_signing.errors import refusal

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | mldsa.MLDSA65PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | mldsa.MLDSA65PublicKey

MAX_BYTES = 1 << 16


class Kind(NamedTuple):
    """A kind of key: its name ``in_words``, how to ``make`` one, whether the ``stock`` model_signing tool verifies it."""

    in_words: str
    make: Callable[[], PrivateKey]
    stock: bool


KINDS = {
    "p256": Kind("ECDSA P-256", lambda: ec.generate_private_key(ec.SECP256R1()), True),
    "p384": Kind("ECDSA P-384", lambda: ec.generate_private_key(ec.SECP384R1()), True),
    "p521": Kind("ECDSA P-521", lambda: ec.generate_private_key(ec.SECP521R1()), True),
    "ed25519": Kind("Ed25519", ed25519.Ed25519PrivateKey.generate, False),
    "ml-dsa-65": Kind("ML-DSA-65", mldsa.MLDSA65PrivateKey.generate, False),
}


_CURVES: dict[str, tuple[str, type[hashes.HashAlgorithm]]] = {  # their kinds, and the hash that belongs to each
    "secp256r1": ("p256", hashes.SHA256),
    "secp384r1": ("p384", hashes.SHA384),
    "secp521r1": ("p521", hashes.SHA512),
}

logger = logging.getLogger(__name__)


def new(path: Path, passphrase: bytes | None, kind: str = "p256") -> Path:
    """Make a key of a ``kind`` of ``KINDS``: the private half at ``path`` (mode 0600), the public half beside it, suffix ".pub".

    ``passphrase`` None leaves the private key unencrypted. Returns the path of the public half. Neither file may exist:
    raises InputError (key-exists, key-unwritable, key-type, passphrase-empty).
    """
    public_path = path.with_suffix(".pub")
    if public_path == path:
        raise refusal("key-exists", str(path), 'a private key cannot be named ".pub": that is the name of its public half')
    if passphrase == b"":
        raise refusal("passphrase-empty", str(path), "an empty passphrase protects nothing")
    if public_path.exists():
        raise refusal("key-exists", str(public_path), "the file exists already")
    if kind not in KINDS:
        raise refusal("key-type", str(path), "a kind of key that is not known", expected=", ".join(KINDS), actual=kind)
    try:
        key = KINDS[kind].make()
    except UnsupportedAlgorithm as error:
        raise refusal("key-type", str(path), f"the cryptography package on this machine cannot make such a key: {error}") from error
    encoding, form = serialization.Encoding, serialization.PrivateFormat.PKCS8
    if passphrase is None:
        private = key.private_bytes(encoding.PEM, form, serialization.NoEncryption())
    else:
        private = pbes2.encrypt(key.private_bytes(encoding.DER, form, serialization.NoEncryption()), passphrase)
    smallfiles.create(path, private, 0o600)
    try:
        smallfiles.create(public_path, public_pem(key.public_key()), 0o644)
    except BaseException:
        path.unlink()
        raise
    return public_path


def load_private(path: Path, passphrase: bytes | None = None) -> PrivateKey:
    """The private key in ``path``. Raises InputError: key-unreadable, key-type, passphrase-needed, passphrase-wrong."""
    data = smallfiles.read(path, MAX_BYTES, "key-unreadable")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        logger.warning("%s can be read by others than its owner; chmod 600 would keep it to them", path)
    try:
        key = serialization.load_pem_private_key(data, passphrase)
    except TypeError as error:
        if passphrase is None:
            raise refusal("passphrase-needed", str(path), "the key is encrypted and no passphrase was given") from error
        return load_private(path)  # a passphrase was given for a key that has none: nothing to unlock
    except UnsupportedAlgorithm as error:
        raise refusal("key-type", str(path), f"a private key of a kind that is not supported: {error}") from error
    except ValueError as error:
        if passphrase is not None and b"ENCRYPTED" in data:
            raise refusal("passphrase-wrong", str(path), "the passphrase does not open this key") from error
        raise refusal("key-unreadable", str(path), "not a private key in PEM form") from error
    if not isinstance(key, PrivateKey):
        raise refusal("key-type", str(path), "a private key of a kind that is not supported", actual=type(key).__name__)
    checked(key.public_key(), str(path))
    return key


def load_public(path: Path) -> PublicKey:
    """The public key in ``path``. Raises InputError: key-unreadable, key-type, key-private."""
    return read_public(smallfiles.read(path, MAX_BYTES, "key-unreadable"), str(path))


def read_public(data: bytes, file: str) -> PublicKey:
    """The public key in ``data``: PEM, or SubjectPublicKeyInfo in DER; ``file`` is named in errors. Raises as load_public does."""
    if b"PRIVATE KEY-----" in data:
        raise refusal("key-private", file, "a private key where a public one is wanted")
    try:
        read = serialization.load_pem_public_key if b"-----BEGIN" in data else serialization.load_der_public_key
        key = read(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise refusal("key-unreadable", file, "not a public key in PEM form") from error
    return checked(key, file)


def read_text(text: str, file: str) -> PublicKey:
    """The public key in ``text``: PEM, or SubjectPublicKeyInfo in base64. Raises as ``load_public`` does."""
    if "-----BEGIN" in text:
        return read_public(text.encode("utf-8"), file)
    try:
        return read_public(base64.b64decode(text, validate=True), file)
    except ValueError as error:
        raise refusal("key-unreadable", file, "a public key that is neither PEM nor base64") from error


def key_id(key: PublicKey) -> str:
    """SHA-256, in hex, of the key's SubjectPublicKeyInfo in DER. Always computed, never read from a file."""
    return hashlib.sha256(public_der(key)).hexdigest()


def hint(key: PublicKey) -> str:
    """What a bundle says to help find its key: SHA-256 of the PEM text, as model_signing computes it. Never an identity."""
    return hashlib.sha256(public_pem(key)).hexdigest()


def public_der(key: PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def public_pem(key: PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def kind(key: PublicKey) -> Kind:
    """The key's kind."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return KINDS[_CURVES[key.curve.name][0]]
    return KINDS["ed25519" if isinstance(key, ed25519.Ed25519PublicKey) else "ml-dsa-65"]


def ecdsa(key: ec.EllipticCurvePublicKey) -> hashes.HashAlgorithm:
    """The hash that belongs to the key's curve: what ECDSA signs is this digest of the data."""
    return _CURVES[key.curve.name][1]()


def sign(key: PrivateKey, data: bytes) -> bytes:
    """Signature over ``data``: ECDSA in DER with the hash that belongs to the curve, or plain Ed25519 or ML-DSA, no context."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(ecdsa(key.public_key()), deterministic_signing=True))
    return key.sign(data)


def verifies(key: PublicKey, signature: bytes, data: bytes) -> bool:
    """Whether ``signature`` over ``data`` is ``key``'s. Only for the one caller that turns False into an error."""
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(ecdsa(key)))
        else:
            key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def lower(key: PublicKey, signature: bytes) -> bytes:
    """The one form of a good signature: of ECDSA's two, (r, s) and (r, order - s), which anybody can turn into each other, that
    with the lower s. There is one only of the other kinds."""
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return signature
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, min(s, key.curve.group_order - s))


def checked(key: object, file: str) -> PublicKey:
    """``key`` itself, if it is a public key of one of ``KINDS``; ``file`` is named in errors. Raises InputError (key-type)."""
    if not isinstance(key, PublicKey):
        raise refusal("key-type", file, "a public key of a kind that is not supported", actual=type(key).__name__)
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in _CURVES:
        raise refusal("key-type", file, "an elliptic curve that is not supported", actual=key.curve.name)
    return key
