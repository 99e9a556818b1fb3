"""Who signs: a private key, wherever it is kept.

A key in a file, in a hardware token or in a cloud's key service are the same to ``sign`` and to claims: something with a
public key that signs bytes. Everything is sealed through ``dsse.seal``, which believes no signer before it has checked the
signature: a token that hashes with another algorithm is found before the release is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from safeflux_signing import keys

if TYPE_CHECKING:
    from safeflux_signing.pkcs11uri import TokenUri


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


def named(text: str) -> Path | TokenUri:
    """Where a private key is, as people write it: the path of a file, or the name of a token's key. Raises InputError (token-name)."""
    if not text.startswith("pkcs11:"):
        return Path(text)
    from safeflux_signing.pkcs11uri import parse

    return parse(text)


def load(key: Path | TokenUri, passphrase: bytes | None = None) -> SigningKey:
    """The private key in a file, or on a token. Raises InputError as ``keys.load_private`` and ``pkcs11.token_signer`` do."""
    if isinstance(key, Path):
        return keys.load_private(key, passphrase)
    from safeflux_signing.pkcs11 import token_signer

    return token_signer(key, passphrase)


def signer_of(key: SigningKey) -> Signer:
    """``key`` itself, or the signer for a private key at hand."""
    return KeySigner(key) if isinstance(key, keys.PrivateKey) else key
