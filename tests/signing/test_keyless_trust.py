"""Whom a trust file believes without a key that is kept: what an identity may vouch for, and what else stands beside it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from signed_release import CLAIMS, MOMENT
from sigstore_fakes import ACME, ISSUER, NOW, SIGNER, Sigstore, refused

from safeflux_signing import dsse, trustfile
from safeflux_signing.errors import InputError, SigningError
from safeflux_signing.keys import PrivateKey
from safeflux_signing.sign import add_claim, cosign
from safeflux_signing.trust import Revocation, Threshold, TrustedKey, TrustStore
from safeflux_signing.verify import verify

pytest.importorskip("sigstore", reason="sigstore is not installed: pip install 'safeflux[sigstore]'")

pytestmark = pytest.mark.usefixtures("offline")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"role": "auditor"}, "key-role"),
        ({"models": ("acme-*",)}, "key-namespace"),
        ({"not_after": NOW - timedelta(1)}, "key-expired"),
        ({"not_before": NOW + timedelta(1)}, "key-not-yet-valid"),
        ({"revoked": Revocation("left", MOMENT)}, "key-revoked"),
    ],
)
def test_what_an_identity_may_vouch_for_is_limited_as_for_a_key(
    certified: Callable[..., Path], acme: TrustStore, changes: dict[str, Any], code: str
) -> None:
    assert refused(certified(), replace(acme, identities=(replace(ACME, **changes),))) == {("model.sig", code)}


def test_it_counts_once_towards_a_threshold(certified: Callable[..., Path], acme: TrustStore) -> None:
    assert refused(certified(), replace(acme, thresholds=(Threshold(2),))) == {("model.sig", "signatures-too-few")}
    verify(certified(), replace(acme, thresholds=(Threshold(1),)), now=NOW)


def test_without_a_trusted_identity_a_certificate_is_refused_by_name(certified: Callable[..., Path], key: PrivateKey) -> None:
    assert refused(certified(), TrustStore((TrustedKey(key.public_key(), "Acme"),))) == {("model.sig", "signing-method")}


def test_keys_go_on_to_verify_beside_identities(release: Path, acme: TrustStore, key: PrivateKey, other: PrivateKey) -> None:
    both = replace(acme, entries=(TrustedKey(key.public_key(), "Acme"),))
    assert verify(release, both, now=NOW).identity is None
    assert refused(release, acme) == {("model.sig", "key-unknown")}


def test_a_claim_or_cosignature_with_a_certificate_is_refused(release: Path, acme: TrustStore, key: PrivateKey, sigstore: Sigstore) -> None:
    both = replace(acme, entries=(TrustedKey(key.public_key(), "Acme"),))
    payload = dsse.loads((release / "model.sig").read_bytes(), "x").payload
    (release / "signatures.jsonl").write_bytes(sigstore.sign(payload) + b"\n")
    assert refused(release, both) == {("signatures.jsonl", "signing-method")}


def test_the_trust_file_holds_identities_and_asks_for_both_names(acme: TrustStore, certified: Callable[..., Path], key: PrivateKey) -> None:
    full = replace(
        acme, entries=(TrustedKey(key.public_key(), "Acme"),), identities=(replace(ACME, models=("a-*",), not_after=NOW), ACME_2)
    )
    data = trustfile.dumps(full)
    assert replace(trustfile.loads(data, "f"), home=acme.home) == replace(full, identities=tuple(sorted(full.identities, key=str)))
    path = acme.home / "trust.toml"
    path.write_bytes(trustfile.dumps(acme))
    assert verify(certified(), trustfile.read(path), now=NOW).identity == ACME
    text = path.read_text()
    for wrong in (
        text.replace(f'issuer = "{ISSUER}"\n', ""),
        text.replace(f'identity = "{SIGNER}"\n', ""),
        text.replace('sigstore_root = "trusted_root.json"\n', ""),
        text + text[text.index("[[identity]]") :],
        text.replace(f'"{ISSUER}"', '""'),
    ):
        assert wrong != text
        with pytest.raises(InputError):
            trustfile.loads(wrong.encode(), "f")


ACME_2 = replace(ACME, identity="https://code.example/acme/.github/workflows/release.yml@refs/heads/main", issuer="https://token.example")


@pytest.mark.parametrize(
    "root", [None, b"", b"{}", b"[" * 10**5, b'{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}']
)
def test_a_trusted_root_that_is_none_is_the_users_own_fault(certified: Callable[..., Path], acme: TrustStore, root: bytes | None) -> None:
    path = acme.home / "trusted_root.json"
    path.unlink() if root is None else path.write_bytes(root)
    with pytest.raises(InputError) as caught:
        verify(certified(), acme, now=NOW)
    assert {finding.code for finding in caught.value.findings} == {"trust-unreadable" if root is None else "trust-invalid"}


def test_without_the_package_it_says_what_to_install(
    certified: Callable[..., Path], acme: TrustStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [*(name for name in sys.modules if name.startswith("sigstore.")), "sigstore", "sigstore.errors"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError) as caught:
        verify(certified(), acme, now=NOW)
    assert "safeflux[sigstore]" in caught.value.findings[0].remedy


def test_others_cosign_and_claim_beside_it_only_with_keys_of_their_own(certified: Callable[..., Path], key: PrivateKey) -> None:
    """Both verify first, under bare keys, and so refuse what they cannot check."""
    for act in (
        lambda release: cosign(release, key, [key.public_key()]),
        lambda release: add_claim(release, key, [key.public_key()], CLAIMS[2]),
    ):
        with pytest.raises(SigningError, match="signing-method"):
            act(certified())
