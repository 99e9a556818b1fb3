"""A trust file with one of everything, and what tests of trust have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from signed_release import MOMENT

from safeflux_signing import keys, trustfile
from safeflux_signing.errors import SigningError
from safeflux_signing.trust import ROLES, Revocation, Threshold, TrustedKey, TrustStore
from safeflux_signing.verify import Verified, verify

NOW = MOMENT + timedelta(days=10)
DAY = timedelta(days=1)
GONE = Revocation("stolen", MOMENT + DAY)
POOL = [ec.derive_private_key(number, ec.SECP256R1()).public_key() for number in range(1, 4)]
POOL += [keys.KINDS[kind].make().public_key() for kind in ("p384", "p521", "ed25519", "ml-dsa-65")]
EXAMPLE = TrustStore(
    (
        TrustedKey(POOL[0], 'Acme "Models" \\ Söhne', models=("acme-*",), not_before=MOMENT, not_after=MOMENT + timedelta(days=400)),
        TrustedKey(POOL[1], "Auditors", "auditor", predicates=("urn:*",), revoked=Revocation("lost", MOMENT)),
    ),
    (("acme-1.0-abc", Revocation("bad", MOMENT)),),
    (Threshold(1), Threshold(2, ROLES, ("acme-*",))),
    "trust.seen.json",
)
TEXT = trustfile.dumps(EXAMPLE).decode()


def loads(text: str | bytes) -> TrustStore:
    return trustfile.loads(text if isinstance(text, bytes) else text.encode(), "trust.toml")


def refusal(of: Callable[[], object]) -> SigningError:
    """The error that ``of`` raises."""
    with pytest.raises(SigningError) as caught:
        of()
    return caught.value


def check(directory: Path, *entries: TrustedKey, thresholds: tuple[Threshold, ...] = (), **more: object) -> Verified:
    """``verify`` at ``NOW`` under a store of these."""
    store = TrustStore(entries, thresholds=thresholds)
    return verify(directory, replace(store, **more), now=NOW)  # type: ignore[arg-type]
