"""PKCS#8 encrypted with PBES2 (RFC 8018): PBKDF2-HMAC-SHA256 and AES-256-CBC, at a cost we choose.

``cryptography`` reads such files but writes them with 2048 rounds only, thousands of times too few today; and the scrypt
variant at a safe cost exceeds the memory that OpenSSL allows itself. So the fifteen lines of DER are written here;
reading stays with ``cryptography``, and `openssl pkey` opens the file too.
"""

from __future__ import annotations

import base64
import hashlib
import os
import textwrap

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

ROUNDS = 600_000
"""PBKDF2 rounds, after OWASP's advice for HMAC-SHA256."""

_PBES2 = bytes.fromhex("06092a864886f70d01050d")  # 1.2.840.113549.1.5.13
_PBKDF2 = bytes.fromhex("06092a864886f70d01050c")  # 1.2.840.113549.1.5.12
_HMAC_SHA256 = bytes.fromhex("06082a864886f70d0209")  # 1.2.840.113549.2.9
_AES_256_CBC = bytes.fromhex("060960864801650304012a")  # 2.16.840.1.101.3.4.1.42
_NULL = bytes.fromhex("0500")
_INTEGER, _OCTETS, _SEQUENCE = 0x02, 0x04, 0x30


def encrypt(pkcs8: bytes, passphrase: bytes) -> bytes:
    """PEM of the DER private key ``pkcs8``, encrypted under ``passphrase`` with a fresh salt."""
    salt, iv = os.urandom(16), os.urandom(16)
    key = hashlib.pbkdf2_hmac("sha256", passphrase, salt, ROUNDS, 32)
    padder, cipher = PKCS7(128).padder(), Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    secret = cipher.update(padder.update(pkcs8) + padder.finalize()) + cipher.finalize()
    rounds = _der(_INTEGER, ROUNDS.to_bytes(ROUNDS.bit_length() // 8 + 1, "big"))
    derivation = _der(_SEQUENCE, _PBKDF2, _der(_SEQUENCE, _der(_OCTETS, salt), rounds, _der(_SEQUENCE, _HMAC_SHA256, _NULL)))
    scheme = _der(_SEQUENCE, _AES_256_CBC, _der(_OCTETS, iv))
    whole = _der(_SEQUENCE, _der(_SEQUENCE, _PBES2, _der(_SEQUENCE, derivation, scheme)), _der(_OCTETS, secret))
    lines = "\n".join(textwrap.wrap(base64.b64encode(whole).decode("ascii"), 64))
    return f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{lines}\n-----END ENCRYPTED PRIVATE KEY-----\n".encode("ascii")


def _der(tag: int, *parts: bytes) -> bytes:
    """One DER element: tag, length in the shortest form, content."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content
