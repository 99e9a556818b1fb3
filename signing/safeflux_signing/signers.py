"""Who signs: a private key, wherever it is kept, or somebody whom certificates name.

A key in a file, in a hardware token or in a cloud's key service are the same to ``sign`` and to claims: something with a
public key that signs bytes. Who keeps no key has a certificate made for each occasion, and brings it into the bundle. Both
sign through ``dsse.line``, which believes no signer before it has checked the signature: a token that hashes with another
algorithm is found before the release is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from safeflux_signing import keys
from safeflux_signing.errors import SigningError, refusal
from safeflux_signing.keynames import KeyName, ProgramName, SigstoreName


class Signer(Protocol):
    """Whoever holds a private key of one of ``keys.KINDS``."""

    def public_key(self) -> keys.PublicKey:
        """The public half."""
        ...

    def sign(self, data: bytes, /) -> bytes:
        """A signature over ``data`` in the form that ``keys.verifies`` reads. Raises InputError (signer-failed)."""
        ...


@runtime_checkable
class Certified(Protocol):
    """Whoever signs without a key that is kept, under certificates that say who it was."""

    @property
    def ident(self) -> str:
        """What tells it from other signers, as its id tells a key: the same in every run, whoever it will turn out to sign for."""
        ...

    def seal(self, payload: bytes, /) -> bytes:
        """A bundle (JSON) in which ``payload`` is signed, as ``keyless.signer`` reads it. Raises InputError (signer-failed)."""
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
AnySigner = SigningKey | Certified


def load(key: KeyName, passphrase: bytes | None = None) -> AnySigner:
    """Whoever is named: as ``load_key``, or somebody whom Sigstore certifies, for which it takes a network and no passphrase.

    Raises InputError as ``load_key`` and ``keyless_signing.keyless_signer`` do.
    """
    if isinstance(key, SigstoreName):
        from safeflux_signing.keyless_signing import keyless_signer

        return keyless_signer(key)
    return load_key(key, passphrase)


def load_key(key: KeyName, passphrase: bytes | None = None) -> SigningKey:
    """The private key in a file, on a token or behind a program, which needs no passphrase.

    Raises InputError as ``keys.load_private``, ``pkcs11.token_signer`` and ``program.program_signer`` do, and key-wanted.
    """
    if isinstance(key, SigstoreName):
        raise _no_key(str(key))
    if isinstance(key, Path):
        return keys.load_private(key, passphrase)
    if isinstance(key, ProgramName):
        from safeflux_signing.program import program_signer

        return program_signer(key)
    from safeflux_signing.pkcs11 import token_signer

    return token_signer(key, passphrase)


def public_file(key: KeyName) -> Path | None:
    """Where the public half of ``key`` lies; None if that is not known, or if there is none."""
    if isinstance(key, ProgramName):
        return key.public
    public = key.with_suffix(".pub") if isinstance(key, Path) else None
    return public if public and public.is_file() else None


def signer_of(key: AnySigner) -> Signer:
    """``key`` itself, or the signer for a private key at hand. Raises InputError (key-wanted) where there is no key."""
    if isinstance(key, Certified):
        raise _no_key(key.ident)
    return KeySigner(key) if isinstance(key, keys.PrivateKey) else key


def ident(by: AnySigner) -> str:
    """What tells ``by`` from other signers: the id of its key, if it has one."""
    return by.ident if isinstance(by, Certified) else keys.key_id(by.public_key())


def _no_key(who: str) -> SigningError:
    return refusal("key-wanted", who, "Sigstore's signers keep no key, and here one is needed")
