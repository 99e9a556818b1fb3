"""Signing keys: made, stored, read, identified.

A key is an elliptic-curve key in a PEM file: PKCS#8, normally encrypted, for the private one; SubjectPublicKeyInfo for the
public one. New keys are on P-256, which every OpenSSF Model Signing verifier must know; P-384 and P-521 are read too.
Signatures are deterministic (RFC 6979): the same key and the same bytes give the same signature, so a release can be
signed again and compared byte by byte.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from safeflux_signing import pbes2
from safeflux_signing.errors import refusal

PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey

MAX_BYTES = 1 << 16
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {"secp256r1": hashes.SHA256, "secp384r1": hashes.SHA384, "secp521r1": hashes.SHA512}
_KINDS = {"secp256r1": "ECDSA P-256", "secp384r1": "ECDSA P-384", "secp521r1": "ECDSA P-521"}

logger = logging.getLogger(__name__)


def new(path: Path, passphrase: bytes | None) -> Path:
    """Make a P-256 key: the private half at ``path`` (mode 0600), the public half beside it with suffix ".pub".

    ``passphrase`` None leaves the private key unencrypted. Returns the path of the public half. Neither file may exist:
    raises InputError (key-exists, key-unwritable, passphrase-empty).
    """
    public_path = path.with_suffix(".pub")
    if public_path == path:
        raise refusal("key-exists", str(path), 'a private key cannot be named ".pub": that is the name of its public half')
    if passphrase == b"":
        raise refusal("passphrase-empty", str(path), "an empty passphrase protects nothing")
    if public_path.exists():
        raise refusal("key-exists", str(public_path), "the file exists already")
    key = ec.generate_private_key(ec.SECP256R1())
    encoding, form = serialization.Encoding, serialization.PrivateFormat.PKCS8
    if passphrase is None:
        private = key.private_bytes(encoding.PEM, form, serialization.NoEncryption())
    else:
        private = pbes2.encrypt(key.private_bytes(encoding.DER, form, serialization.NoEncryption()), passphrase)
    _create(path, private, 0o600)
    try:
        _create(public_path, public_pem(key.public_key()), 0o644)
    except BaseException:
        path.unlink()
        raise
    return public_path


def load_private(path: Path, passphrase: bytes | None = None) -> PrivateKey:
    """The private key in ``path``. Raises InputError: key-unreadable, key-type, passphrase-needed, passphrase-wrong."""
    data = _slurp(path)
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
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise refusal("key-type", str(path), "a private key of a kind that is not supported", actual=type(key).__name__)
    _check_curve(key.public_key(), path)
    return key


def load_public(path: Path) -> PublicKey:
    """The public key in ``path``. Raises InputError: key-unreadable, key-type, key-private."""
    data = _slurp(path)
    if b"PRIVATE KEY-----" in data:
        raise refusal("key-private", str(path), "a private key where a public one is wanted")
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise refusal("key-unreadable", str(path), "not a public key in PEM form") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise refusal("key-type", str(path), "a public key of a kind that is not supported", actual=type(key).__name__)
    _check_curve(key, path)
    return key


def key_id(key: PublicKey) -> str:
    """SHA-256, in hex, of the key's SubjectPublicKeyInfo in DER. Always computed, never read from a file."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def hint(key: PublicKey) -> str:
    """What a bundle says to help find its key: SHA-256 of the PEM text, as model_signing computes it. Never an identity."""
    return hashlib.sha256(public_pem(key)).hexdigest()


def public_pem(key: PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def kind(key: PublicKey) -> str:
    """The key's type in words, such as "ECDSA P-256"."""
    return _KINDS[key.curve.name]


def sign(key: PrivateKey, data: bytes) -> bytes:
    """Deterministic ECDSA signature (DER) over ``data`` with the hash that belongs to the curve."""
    return key.sign(data, ec.ECDSA(_HASHES[key.curve.name](), deterministic_signing=True))


def verifies(key: PublicKey, signature: bytes, data: bytes) -> bool:
    """Whether ``signature`` over ``data`` is ``key``'s. Only for the one caller that turns False into an error."""
    try:
        key.verify(signature, data, ec.ECDSA(_HASHES[key.curve.name]()))
    except InvalidSignature:
        return False
    return True


def _check_curve(key: PublicKey, path: Path) -> None:
    if key.curve.name not in _HASHES:
        raise refusal("key-type", str(path), "an elliptic curve that is not supported", actual=key.curve.name)


def _slurp(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise refusal("key-unreadable", str(path), f"cannot read the key: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise refusal("key-unreadable", str(path), "far too large for a key file", expected=f"at most {MAX_BYTES} bytes")
    return data


def _create(path: Path, data: bytes, mode: int) -> None:
    """Write a file that must not exist yet; on failure none is left."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except FileExistsError as error:
        raise refusal("key-exists", str(path), "the file exists already") from error
    except OSError as error:
        raise refusal("key-unwritable", str(path), f"cannot create the file: {error.strerror}") from error
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(file)
    except BaseException:
        path.unlink()
        raise
