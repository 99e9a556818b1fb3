"""A key that never leaves its token signs like any other. The token is SoftHSM's, made anew for each run (``softhsm.py``).

By hand: apt install softhsm2 (or brew install softhsm); pip install python-pkcs11
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from signed_release import CLAIMS
from softhsm import CURVES, PIN

from safeflux_signing import keynames, keys, signers
from safeflux_signing.errors import InputError
from safeflux_signing.pkcs11 import TokenSigner, token_signer
from safeflux_signing.pkcs11uri import TokenUri, parse
from safeflux_signing.sign import add_claim, cosign, sign
from safeflux_signing.verify import verify


def on_token(module: Path, label: str) -> TokenSigner:
    return token_signer(TokenUri(module, "safeflux", label), PIN.encode())


@pytest.mark.parametrize("kind", [*CURVES, "ed25519"])
def test_a_key_on_a_token_signs_releases_and_claims(bare: Path, softhsm: Path, kind: str, key: keys.PrivateKey) -> None:
    signer = on_token(softhsm, kind)
    public = signer.public_key()
    assert keys.kind(public) == keys.KINDS[kind]
    sign(bare, signer, release_id="demo-1.0", sequence=1, claims=CLAIMS)
    verified = verify(bare, [public])
    assert {claim.key_id for claim in verified.claims} == {verified.key_id} == {keys.key_id(public)}
    cosign(bare, key, [public])
    assert verify(bare, [public, key.public_key()]).cosigners == (keys.key_id(key.public_key()),)


def test_a_token_signs_beside_a_key_in_a_file(release: Path, softhsm: Path, key: keys.PrivateKey) -> None:
    signer = on_token(softhsm, "p256")
    cosign(release, signer, [key.public_key()])
    add_claim(release, signer, [key.public_key(), signer.public_key()], ("urn:x", {}))
    verified = verify(release, [key.public_key(), signer.public_key()])
    assert verified.cosigners == (verified.claims[-1].key_id,) == (keys.key_id(signer.public_key()),)


def test_a_key_is_named_by_its_label_its_id_or_the_serial_of_its_token(softhsm: Path) -> None:
    public = keys.key_id(on_token(softhsm, "p384").public_key())
    import pkcs11

    serial = pkcs11.lib(str(softhsm)).get_token(token_label="safeflux").serial.decode()
    for name in ("token=safeflux;object=p384", f"serial={serial};object=p384;type=private", "token=safeflux;id=%01%38%34"):
        named = keynames.named(f"pkcs11:{name}?module-path={softhsm}")
        assert keys.key_id(signers.load(named, PIN.encode()).public_key()) == public, name


@pytest.mark.parametrize(
    ("token", "label", "pin", "code"),
    [
        ("nobody's", "p256", PIN, "signer-failed"),
        ("safeflux", "none", PIN, "signer-failed"),
        ("safeflux", "p256", "4321", "passphrase-wrong"),
        ("safeflux", "p256", None, "passphrase-needed"),
        ("safeflux", "koblitz", PIN, "key-type"),
        ("safeflux", "rsa", PIN, "key-type"),
    ],
)
def test_what_a_token_does_not_have_is_said(softhsm: Path, token: str, label: str, pin: str | None, code: str) -> None:
    with pytest.raises(InputError) as caught:
        token_signer(TokenUri(softhsm, token, label), pin and pin.encode())  # type: ignore[arg-type]
    assert {finding.code for finding in caught.value.findings} == {code}
    assert not pin or pin not in str(caught.value)


def test_a_token_that_is_gone_when_it_is_to_sign_is_said(softhsm: Path) -> None:
    signer = replace(on_token(softhsm, "p256"), uri=TokenUri(softhsm, "elsewhere", "p256"))
    with pytest.raises(InputError) as caught:
        signer.sign(b"data")
    assert {finding.code for finding in caught.value.findings} == {"signer-failed"}


def test_another_key_under_the_same_name_signs_nothing(bare: Path, softhsm: Path) -> None:
    """The token was exchanged after its public key had been read."""
    signer = replace(on_token(softhsm, "p256"), uri=TokenUri(softhsm, "safeflux", "p384"))
    with pytest.raises(InputError, match="does not verify with its own public key"):
        sign(bare, signer, release_id="demo-1.0", sequence=1)
    assert not (bare / "model.sig").exists()


def test_a_library_that_is_none_is_said(softhsm: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        on_token(tmp_path / "none.so", "p256")
    assert {finding.code for finding in caught.value.findings} == {"signer-failed"}


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(InputError) as caught:
        on_token(Path("x.so"), "k")
    assert {finding.code for finding in caught.value.findings} == {"signer-missing"}
    assert "safeflux[pkcs11]" in caught.value.findings[0].remedy


def test_a_name_is_read_as_the_rfc_writes_it() -> None:
    full = "pkcs11:token=Acme%20HSM;serial=00%2F1;object=a%3Bb;id=%00%ff;type=private?module-path=/usr/lib/x.so"
    assert parse(full) == TokenUri(Path("/usr/lib/x.so"), "Acme HSM", "a;b", "00/1", b"\x00\xff")
    assert str(parse(full)) == "pkcs11:token=Acme%20HSM;serial=00%2F1;object=a%3Bb;id=%00%FF"
    assert keynames.named("keys/pkcs11.key") == Path("keys/pkcs11.key")


def test_the_library_may_be_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAFEFLUX_PKCS11_MODULE", raising=False)
    with pytest.raises(InputError, match="no library is named"):
        parse("pkcs11:object=x")
    monkeypatch.setenv("SAFEFLUX_PKCS11_MODULE", "/lib/hsm.so")
    assert parse("pkcs11:object=x") == TokenUri(Path("/lib/hsm.so"), label="x")
    assert parse("pkcs11:object=x?module-path=/lib/other.so").module == Path("/lib/other.so")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("pkcs11:", "no key is named"),
        ("pkcs11:token=x", "no key is named"),
        ("pkcs11:object=x;object=y", "stands twice"),
        ("pkcs11:object=x;slot-id=1", "slot-id is not known"),
        ("pkcs11:object=x;type=cert", "not a private key"),
        ("pkcs11:object", "name=value"),
        ("pkcs11:object=", "name=value"),
        ("pkcs11:object=%ff", "not UTF-8"),
        ("pkcs11:object=x?pin-value=98765", "pin-value has no place"),
        ("pkcs11:object=x?pin-value=98765&pin-value=98765", "stands twice"),
        ("pkcs11:object=x?pin-source=file:/98765", "pin-source has no place"),
    ],
)
def test_a_name_that_is_none_or_could_mean_another_key_is_refused(name: str, why: str) -> None:
    text = name if "?" in name else f"{name}?module-path=/x.so"
    with pytest.raises(InputError, match=why) as caught:
        parse(text)
    assert {finding.code for finding in caught.value.findings} == {"token-name"}
    assert "98765" not in str(caught.value)
