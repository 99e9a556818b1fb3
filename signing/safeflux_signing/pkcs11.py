"""A signer whose key never leaves its token: a smart card, a USB token, a hardware security module, through PKCS#11.

The one module here that needs another package, python-pkcs11 (the extra ``pkcs11``), and only when a token is opened. ECDSA
keys on P-256, P-384 and P-521, and Ed25519 where the token has it. Tokens draw their nonces by chance, so that the same
release signed twice has two signatures; ``dsse.seal`` checks each of them, as of any signer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from safeflux_signing import keys
from safeflux_signing.errors import SigningError, refusal
from safeflux_signing.pkcs11uri import TokenUri


@dataclass(frozen=True)
class TokenSigner:
    """A private key on a token. The token is opened for each signature: between two, days may go by, and the token be taken out."""

    uri: TokenUri
    public: keys.PublicKey
    pin: str | None = field(repr=False)

    def public_key(self) -> keys.PublicKey:
        return self.public

    def sign(self, data: bytes, /) -> bytes:
        import pkcs11

        with _opened(self.uri, self.pin) as session:
            handle = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=self.uri.label, id=self.uri.id)
            if not isinstance(self.public, ec.EllipticCurvePublicKey):
                return bytes(handle.sign(data, mechanism=pkcs11.Mechanism.EDDSA))
            # The digest is made here: every token signs one, few hash with each of the three algorithms.
            digest = hashes.Hash(keys.ecdsa(self.public))
            digest.update(data)
            plain = bytes(handle.sign(digest.finalize(), mechanism=pkcs11.Mechanism.ECDSA))
        half = len(plain) // 2
        return encode_dss_signature(int.from_bytes(plain[:half], "big"), int.from_bytes(plain[half:], "big"))


def token_signer(uri: TokenUri, pin: bytes | None) -> TokenSigner:
    """The key that ``uri`` names; ``pin`` None opens the token without one. Its public half must lie beside it on the token.

    Raises InputError: signer-missing without python-pkcs11; passphrase-needed where no such key is seen without a PIN;
    passphrase-wrong; signer-failed for a library, token or key that is not as it must be; key-type.
    """
    try:
        text = None if pin is None else pin.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refusal("passphrase-wrong", str(uri), "the PIN is not UTF-8") from error
    with _opened(uri, text) as session:
        import pkcs11

        try:
            session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=uri.label, id=uri.id)
        except pkcs11.NoSuchKey as error:
            if pin is None:
                raise refusal("passphrase-needed", str(uri), "the token shows no such key without its PIN") from error
            raise
        half = session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, label=uri.label, id=uri.id)
        return TokenSigner(uri, _public(half, str(uri)), text)


@contextmanager
def _opened(uri: TokenUri, pin: str | None) -> Iterator[Any]:
    """A session with the token. Whatever fails within is said in words of ours."""
    try:
        import pkcs11
    except ImportError as error:
        raise refusal("signer-missing", str(uri), "the package python-pkcs11 is not installed") from error
    try:
        serial = None if uri.serial is None else uri.serial.encode("utf-8")
        with pkcs11.lib(str(uri.module)).get_token(token_label=uri.token, token_serial=serial).open(user_pin=pin) as session:
            yield session
    except SigningError:
        raise
    except pkcs11.PinIncorrect as error:
        raise refusal("passphrase-wrong", str(uri), "the PIN does not open this token") from error
    except (pkcs11.PKCS11Error, RuntimeError, OSError) as error:
        raise refusal("signer-failed", str(uri), f"the token did not do it: {type(error).__name__} {error}".rstrip()) from error


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
