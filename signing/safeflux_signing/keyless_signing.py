"""Signing without a key that is kept: Sigstore certifies one that is made for the purpose, and logs in public what it signed.

The one part of signing and verifying that talks to a network, which it does where a signer is called ``sigstore:`` and nowhere else. An
adapter for the package sigstore (the extra ``sigstore``), of which it uses what is public, and which is believed as little as any
signer: what it returns is verified against its own trusted root here, and read as a verifier reads it in ``keyless.seal``.

Sigstore takes statements whose subjects have digests of the families SHA-2 and SHA-3 only, and whose predicates are objects.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from safeflux_signing import smallfiles
from safeflux_signing.errors import LONGEST, SigningError, refusal
from safeflux_signing.keynames import SIGSTORE, SigstoreName

if TYPE_CHECKING:
    from cryptography import x509
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken
    from sigstore.sign import Signer

TOKEN = "SIGSTORE_ID_TOKEN"
"""The environment variable for an identity token. It never stands in a command line, where other users of the machine could read it."""

MAX_CONFIG = 4 << 20
_LEFT = timedelta(seconds=30)  # of a certificate's time, for the log to see the signature in

logger = logging.getLogger(__name__)


class KeylessSigner:
    """Whoever the identity tokens name that ``token`` gets, certified by the instance of Sigstore that ``config`` describes.

    A certificate is used for as long as it is good, some ten minutes, and then another one is asked for: between a commitment and the
    release that it belongs to may lie days. ``ident`` tells the instance from others, and ``name`` is what people call it; who will
    sign, only the next token says.
    """

    def __init__(
        self, name: str, ident: str, config: ClientTrustConfig, token: Callable[[ClientTrustConfig], IdentityToken] | None = None
    ) -> None:
        self.name, self.ident = name, ident
        self._config, self._token = config, token or identity_token
        self._held: Signer | None = None
        self._until = datetime.min.replace(tzinfo=UTC)

    def seal(self, payload: bytes, /) -> bytes:
        """A bundle (JSON) in which ``payload`` is signed. Raises InputError (signer-failed)."""
        from sigstore.dsse import Statement
        from sigstore.verify import Verifier

        try:
            statement = Statement(payload)
            if self._held is None or datetime.now(UTC) > self._until - _LEFT:
                self._held = self._certified()
            bundle = self._held.sign_dsse(statement)
            self._until = bundle.signing_certificate.not_valid_after_utc
            Verifier(trusted_root=self._config.trusted_root).verify_dsse(bundle, _Anybody())
        except SigningError:
            raise
        except Exception as error:  # a large library met a network: their errors have no common root
            raise _failed(self.name, "Sigstore did not sign", error) from error
        return str(bundle.to_json()).encode("utf-8")

    def _certified(self) -> Signer:
        """A new key with a certificate."""
        from sigstore.sign import Signer, SigningContext

        logger.warning("signing with Sigstore, over the network: its log keeps for good, and shows to all, whom your token names")
        return Signer(self._token(self._config), SigningContext.from_trust_config(self._config))


class _Anybody:
    """Sigstore's hook: who it is, the verifier's trust file decides."""

    def verify(self, cert: x509.Certificate) -> None:
        pass


def keyless_signer(name: SigstoreName) -> KeylessSigner:
    """Whoever signs by the instance of Sigstore that ``name`` names. Nobody is asked for a token yet.

    Raises InputError: keyless-missing without the package sigstore; signer-config for a trust config that is none; signer-failed where
    that of the public instance cannot be had.
    """
    try:
        from sigstore.models import ClientTrustConfig
    except ImportError as error:
        raise refusal("keyless-missing", str(name), "the package sigstore is not installed") from error
    if name.config is None:
        try:
            return KeylessSigner(str(name), SIGSTORE, ClientTrustConfig.production())
        except Exception as error:  # as above
            raise _failed(str(name), "what the public Sigstore is today cannot be found out", error) from error
    data = smallfiles.read(name.config, MAX_CONFIG, "signer-config")
    try:
        config = ClientTrustConfig.from_json(data.decode("utf-8"))
        config.signing_config, config.trusted_root  # noqa: B018  # which are read only now
    except Exception as error:  # whatever its parsers raise
        raise refusal("signer-config", str(name.config), f"not a client trust config of Sigstore: {_words(error)}") from error
    return KeylessSigner(str(name), f"{SIGSTORE}{hashlib.sha256(data).hexdigest()}", config)


def identity_token(config: ClientTrustConfig) -> IdentityToken:
    """The token in the environment; else what this machine has one for, as CI services do; else what somebody at a terminal logs in for.

    Raises InputError (signer-failed) if there is none, and what the package sigstore raises.
    """
    from sigstore.oidc import IdentityToken, Issuer, detect_credential

    if given := os.environ.get(TOKEN, "").strip() or detect_credential():
        return IdentityToken(given)
    if sys.stdin.isatty():
        return Issuer(config.signing_config.get_oidc_url()).identity_token()
    raise refusal(
        "signer-failed",
        SIGSTORE,
        f"no identity token: none in {TOKEN}, none that this machine gives (in a GitHub workflow: permissions: id-token: write), "
        "and nobody at a terminal to log in",
    )


def _failed(who: str, what: str, error: Exception) -> SigningError:
    return refusal("signer-failed", who, f"{what}: {_words(error)}")


def _words(error: Exception) -> str:
    """What an error says, and what was behind it, on one line."""
    from sigstore.oidc import ExpiredIdentity

    if isinstance(error, ExpiredIdentity):
        return "the identity token has expired"
    said = [f"{type(one).__name__} {one}" for one in (error, error.__cause__) if one is not None]
    return " ".join(" - ".join(said).split())[:LONGEST]
