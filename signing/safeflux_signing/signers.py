"""Who signs: a private key, wherever it is kept.

A key in a file, in a hardware token or in a cloud's key service are the same to ``sign`` and to claims: something with a
public key that signs bytes. Everything is sealed through ``dsse.seal``, which believes no signer before it has checked the
signature: a token that hashes with another algorithm is found before the release is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from safeflux_signing import keys
from safeflux_signing.keynames import KeyName, ProgramName


class Signer(Protocol):
    """Whoever holds a private key of one of ``keys.KINDS``."""

    def public_key(self) -> keys.PublicKey:
        """The public half."""
        ...

    def sign(self, data: bytes, /) -> bytes:
        """A signature over ``data`` in the form that ``keys.verifies`` reads. Raises InputError (signer-failed)."""
        ...


@dataclass(frozen=True)
class KeySigner:
    """A private key in memory, such as ``keys.load_private`` reads from a file."""

    key: keys.PrivateKey

    def public_key(self) -> keys.PublicKey:
        return self.key.public_key()

    def sign(self, data: bytes, /) -> bytes:
        return keys.sign(self.key, data)


SigningKey = keys.PrivateKey | Signer


def load(key: KeyName, passphrase: bytes | None = None) -> SigningKey:
    """The private key in a file, on a token or behind a program, which needs no passphrase.

    Raises InputError as ``keys.load_private``, ``pkcs11.token_signer`` and ``program.program_signer`` do.
    """
    if isinstance(key, Path):
        return keys.load_private(key, passphrase)
    if isinstance(key, ProgramName):
        from safeflux_signing.program import program_signer

        return program_signer(key)
    from safeflux_signing.pkcs11 import token_signer

    return token_signer(key, passphrase)


def public_file(key: KeyName) -> Path | None:
    """Where the public half of ``key`` lies; None if that is not known."""
    if isinstance(key, ProgramName):
        return key.public
    public = key.with_suffix(".pub") if isinstance(key, Path) else None
    return public if public and public.is_file() else None


def signer_of(key: SigningKey) -> Signer:
    """``key`` itself, or the signer for a private key at hand."""
    return KeySigner(key) if isinstance(key, keys.PrivateKey) else key
