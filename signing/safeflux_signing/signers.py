"""Who signs: a private key, wherever it is kept.

A key in a file, in a hardware token or in a cloud's key service are the same to ``sign`` and to claims: something with a
public key that signs bytes. Everything is sealed through ``dsse.seal``, which believes no signer before it has checked the
signature: a token that hashes with another algorithm is found before the release is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from safeflux_signing import keys


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


def signer_of(key: SigningKey) -> Signer:
    """``key`` itself, or the signer for a private key at hand."""
    return KeySigner(key) if isinstance(key, keys.PrivateKey) else key
