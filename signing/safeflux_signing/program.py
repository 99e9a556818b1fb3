"""A signer whose key is somewhere that a program reaches: a cloud's key service, a vault, a hardware module without PKCS#11.

The program reads on its standard input what is to be signed, writes the signature to its standard output, and ends with status 0. For
ECDSA it may read the digest (SHA-256 for P-256, SHA-384 for P-384, SHA-512 for P-521), which key services take where they
would not take a long message; Ed25519 and ML-DSA-65 sign no digest. Signatures are those of ``keys.verifies``, ECDSA's in DER, as
bytes or in base64. Nothing more is believed: which key it is says the file with the public key, and ``dsse.seal`` holds every signature
against that before anything is written.
"""

from __future__ import annotations

import base64
import subprocess
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from safeflux_signing import keys
from safeflux_signing.errors import SigningError, refusal
from safeflux_signing.keynames import ProgramName

SECONDS = 120.0
"""How long a program may take: time enough to touch a key, or to log in."""

_ED25519, _ML_DSA_65 = 64, 3309  # bytes of a signature
_SAID = 200  # characters of what a failing program said last


@dataclass(frozen=True)
class ProgramSigner:
    """A private key behind a program, which is started for each signature. ``seconds``: how long it may take."""

    name: ProgramName
    public: keys.PublicKey
    seconds: float = SECONDS

    def public_key(self) -> keys.PublicKey:
        return self.public

    def sign(self, data: bytes, /) -> bytes:
        given = data
        if self.name.reads == "digest" and isinstance(self.public, ec.EllipticCurvePublicKey):
            digest = hashes.Hash(keys.ecdsa(self.public))
            digest.update(data)
            given = digest.finalize()
        written = self._run(given)
        for signature in (written, _from_base64(written)):
            if _is_signature(self.public, signature):
                return signature
        wanted = f"a signature by {keys.kind(self.public).in_words}, as bytes or in base64"
        raise _failed(self.name, "what the program wrote is no signature", expected=wanted, actual=f"{len(written)} bytes")

    def _run(self, given: bytes) -> bytes:
        """What the program writes when it reads ``given``."""
        try:
            done = subprocess.run(self.name.command, input=given, capture_output=True, timeout=self.seconds, check=False)
        except subprocess.TimeoutExpired as error:
            raise _failed(self.name, f"the program did not end within {self.seconds:g} seconds") from error
        except FileNotFoundError as error:
            raise _failed(self.name, "there is no such program") from error
        except OSError as error:
            raise _failed(self.name, f"the program could not be started: {error.strerror}") from error
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()[-_SAID:]
            how = f"ended with status {done.returncode}" if done.returncode > 0 else f"was ended by signal {-done.returncode}"
            raise _failed(self.name, f"the program {how}{': ' if said else ''}{said}")
        return done.stdout


def program_signer(name: ProgramName) -> ProgramSigner:
    """The key that ``name`` names. The program is not started yet.

    Raises InputError: key-unreadable, key-type or key-private for the file with the public key; program-name for a key that signs no
    digest.
    """
    public = keys.load_public(name.public)
    if name.reads == "digest" and not isinstance(public, ec.EllipticCurvePublicKey):
        raise refusal("program-name", str(name), f"{keys.kind(public).in_words} signs no digest", expected="exec:message")
    return ProgramSigner(name, public)


def _is_signature(public: keys.PublicKey, data: bytes) -> bool:
    """Whether ``data`` has the form of a signature by this kind of key."""
    if not isinstance(public, ec.EllipticCurvePublicKey):
        return len(data) == (_ED25519 if isinstance(public, ed25519.Ed25519PublicKey) else _ML_DSA_65)
    try:
        decode_dss_signature(data)
    except ValueError:
        return False
    return True


def _from_base64(written: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(written.split()), validate=True)
    except ValueError:
        return b""


def _failed(name: ProgramName, what: str, *, expected: str | None = None, actual: str | None = None) -> SigningError:
    return refusal("signer-failed", str(name), what, expected=expected, actual=actual)
