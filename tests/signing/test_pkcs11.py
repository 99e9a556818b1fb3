"""A key that never leaves its token signs like any other. The token is SoftHSM's, made anew for each run.

By hand: apt install softhsm2 (or brew install softhsm); pip install python-pkcs11
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from signed_release import CLAIMS

from safeflux_signing import keys, pkcs11
from safeflux_signing.errors import InputError
from safeflux_signing.sign import cosign, sign
from safeflux_signing.verify import verify

PLACES = (
    "/usr/lib/softhsm",
    "/usr/lib/x86_64-linux-gnu/softhsm",
    "/usr/lib64/softhsm",
    "/usr/lib64",
    "/opt/homebrew/lib/softhsm",
    "/usr/local/lib/softhsm",
)
MODULE = next((path for place in PLACES if (path := Path(place) / "libsofthsm2.so").is_file()), None)
PIN = "1234"
CURVES = {"p256": "secp256r1", "p384": "secp384r1", "p521": "secp521r1"}


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SoftHSM's library, set to a token "safeflux" in a directory of its own, with a key of each kind."""
    if MODULE is None or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM is not installed: apt install softhsm2")
    library: Any = pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed: pip install 'safeflux[pkcs11]'")
    from pkcs11.util.ec import encode_named_curve_parameters

    place = tmp_path_factory.mktemp("softhsm")
    (place / "tokens").mkdir()
    (place / "softhsm2.conf").write_text(f"directories.tokendir = {place / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(place / "softhsm2.conf"))
        command = ["softhsm2-util", "--init-token", "--free", "--label", "safeflux", "--pin", PIN, "--so-pin", "5678"]
        subprocess.run(command, check=True, capture_output=True)
        library.lib(str(MODULE)).reinitialize()
        kinds = library.KeyType
        with library.lib(str(MODULE)).get_token(token_label="safeflux").open(user_pin=PIN, rw=True) as session:

            def make(kind: Any, curve: str, label: str, **more: Any) -> None:
                parameters = {library.Attribute.EC_PARAMS: encode_named_curve_parameters(curve)}
                session.create_domain_parameters(kind, parameters, local=True).generate_keypair(label=label, store=True, **more)

            for label, curve in {**CURVES, "koblitz": "secp256k1"}.items():
                make(kinds.EC, curve, label)
            make(kinds.EC_EDWARDS, "1.3.101.112", "ed25519", mechanism=library.Mechanism.EC_EDWARDS_KEY_PAIR_GEN)
            session.generate_keypair(kinds.RSA, 1024, label="rsa", store=True)
        yield MODULE


@pytest.mark.parametrize("kind", [*CURVES, "ed25519"])
def test_a_key_on_a_token_signs_releases_and_claims(bare: Path, module: Path, kind: str, key: keys.PrivateKey) -> None:
    with pkcs11.open_token(module, "safeflux", kind, PIN) as signer:
        public = signer.public_key()
        assert keys.kind(public) == keys.KINDS[kind]
        sign(bare, signer, release_id="demo-1.0", sequence=1, claims=CLAIMS)
    verified = verify(bare, [public])
    assert {claim.key_id for claim in verified.claims} == {verified.key_id} == {keys.key_id(public)}
    cosign(bare, key, [public])
    assert verify(bare, [public, key.public_key()]).cosigners == (keys.key_id(key.public_key()),)


def test_a_token_signs_beside_a_key_in_a_file(release: Path, module: Path, key: keys.PrivateKey) -> None:
    with pkcs11.open_token(module, "safeflux", "p256", PIN) as signer:
        cosign(release, signer, [key.public_key()])
        assert verify(release, [key.public_key(), signer.public_key()]).cosigners == (keys.key_id(signer.public_key()),)


@pytest.mark.parametrize(
    ("token", "label", "pin", "code"),
    [
        ("nobody's", "p256", PIN, "signer-failed"),
        ("safeflux", "none", PIN, "signer-failed"),
        ("safeflux", "p256", "4321", "signer-failed"),
        ("safeflux", "koblitz", PIN, "key-type"),
        ("safeflux", "rsa", PIN, "key-type"),
    ],
)
def test_what_a_token_does_not_have_is_said(module: Path, token: str, label: str, pin: str, code: str) -> None:
    with pytest.raises(InputError) as caught, pkcs11.open_token(module, token, label, pin):
        pass
    assert {finding.code for finding in caught.value.findings} == {code}


def test_a_token_that_was_closed_signs_no_more(module: Path) -> None:
    with pkcs11.open_token(module, "safeflux", "p256", PIN) as signer:
        pass
    with pytest.raises(InputError) as caught:
        signer.sign(b"data")
    assert {finding.code for finding in caught.value.findings} == {"signer-failed"}


def test_a_library_that_is_none_is_said(module: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught, pkcs11.open_token(tmp_path / "none.so", "safeflux", "p256", PIN):
        pass
    assert {finding.code for finding in caught.value.findings} == {"signer-failed"}


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(InputError) as caught, pkcs11.open_token(Path("x.so"), "t", "k", None):
        pass
    assert {finding.code for finding in caught.value.findings} == {"signer-missing"}
    assert "safeflux[pkcs11]" in caught.value.findings[0].remedy
