"""A signer whose key never leaves its token: a smart card, a USB token, a hardware security module, through PKCS#11.

The one module here that needs another package, python-pkcs11 (the extra ``pkcs11``), and only when a token is opened. ECDSA
keys on P-256, P-384 and P-521, and Ed25519 where the token has it. Tokens draw their nonces by chance, so that the same
release signed twice has two signatures; ``dsse.seal`` checks each of them, as of any signer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from safeflux_signing import keys
from safeflux_signing.errors import SigningError, refusal


@dataclass(frozen=True)
class TokenSigner:
    """A private key on an open token, and its public half. ``handle`` is python-pkcs11's."""

    public: keys.PublicKey
    handle: Any
    where: str

    def public_key(self) -> keys.PublicKey:
        return self.public

    def sign(self, data: bytes, /) -> bytes:
        import pkcs11

        try:
            if not isinstance(self.public, ec.EllipticCurvePublicKey):
                return bytes(self.handle.sign(data, mechanism=pkcs11.Mechanism.EDDSA))
            # The digest is made here: every token signs one, few hash with each of the three algorithms.
            digest = hashes.Hash(keys.ecdsa(self.public))
            digest.update(data)
            plain = bytes(self.handle.sign(digest.finalize(), mechanism=pkcs11.Mechanism.ECDSA))
        except pkcs11.PKCS11Error as error:
            raise _failed(self.where, error) from error
        half = len(plain) // 2
        return encode_dss_signature(int.from_bytes(plain[:half], "big"), int.from_bytes(plain[half:], "big"))


@contextmanager
def open_token(module: Path, token: str, label: str, pin: str | None) -> Iterator[TokenSigner]:
    """The key called ``label`` on the token called ``token``, reached through the vendor's library ``module``; good within the context.

    Its public half must lie beside it on the token. Raises InputError: signer-missing without python-pkcs11; signer-failed
    for a library, token, PIN or key that is not as it must be; key-type.
    """
    where = f"{token}: {label}"
    try:
        import pkcs11
    except ImportError as error:
        raise refusal("signer-missing", where, "the package python-pkcs11 is not installed") from error
    try:
        with pkcs11.lib(str(module)).get_token(token_label=token).open(user_pin=pin) as session:
            handle = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=label)
            half = session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, label=label)
            yield TokenSigner(_public(half, where), handle, where)
    except SigningError:
        raise
    except (pkcs11.PKCS11Error, RuntimeError, OSError) as error:
        raise _failed(where, error) from error


def _public(half: Any, where: str) -> keys.PublicKey:
    """The public key that the token's object ``half`` is."""
    import pkcs11
    from pkcs11.util.ec import encode_ec_public_key

    if half.key_type == pkcs11.KeyType.EC:
        return keys.read_public(encode_ec_public_key(half), where)
    if half.key_type == pkcs11.KeyType.EC_EDWARDS:
        # An OCTET STRING around the point; some tokens leave it out.
        return ed25519.Ed25519PublicKey.from_public_bytes(bytes(half[pkcs11.Attribute.EC_POINT])[-32:])
    raise refusal("key-type", where, "a key on a token of a kind that is not supported", actual=half.key_type)


def _failed(where: str, error: Exception) -> SigningError:
    return refusal("signer-failed", where, f"the token did not do it: {type(error).__name__} {error}".rstrip())
