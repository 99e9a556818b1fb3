"""A token of SoftHSM's, made anew for each run of the tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

PLACES = (
    "/usr/lib/softhsm",
    "/usr/lib/x86_64-linux-gnu/softhsm",
    "/usr/lib/aarch64-linux-gnu/softhsm",
    "/usr/lib64/softhsm",
    "/usr/lib64",
    "/opt/homebrew/lib/softhsm",
    "/usr/local/lib/softhsm",
)
PIN = "1234"
CURVES = {"p256": "secp256r1", "p384": "secp384r1", "p521": "secp521r1"}


def make(place: Path, patch: pytest.MonkeyPatch) -> Path:
    """SoftHSM's library, set to a token "safeflux" in ``place``, with a key of each kind."""
    tool = shutil.which("softhsm2-util")
    beside = [str(Path(tool).parent.parent / "lib" / "softhsm")] if tool else []  # unpacked somewhere, as .ci/run does
    found = next((path for one in (*beside, *PLACES) if (path := Path(one) / "libsofthsm2.so").is_file()), None)
    if tool is None:
        pytest.skip("SoftHSM is not installed: apt install softhsm2")
    if found is None:
        pytest.fail(f"{tool} is there, but libsofthsm2.so is in none of {', '.join((*beside, *PLACES))}")
    library: Any = pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed: pip install 'safeflux[pkcs11]'")
    (place / "tokens").mkdir()
    (place / "softhsm2.conf").write_text(f"directories.tokendir = {place / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n")
    patch.setenv("SOFTHSM2_CONF", str(place / "softhsm2.conf"))
    command = [tool, "--module", str(found), "--init-token", "--free", "--label", "safeflux", "--pin", PIN, "--so-pin", "5678"]
    subprocess.run(command, check=True, capture_output=True)
    library.lib(str(found)).reinitialize()
    _fill(library, found)
    return found


def _fill(library: Any, module: Path) -> None:
    from pkcs11.util.ec import encode_named_curve_parameters

    kinds = library.KeyType
    with library.lib(str(module)).get_token(token_label="safeflux").open(user_pin=PIN, rw=True) as session:

        def pair(kind: Any, curve: str, label: str, **more: Any) -> None:
            parameters = {library.Attribute.EC_PARAMS: encode_named_curve_parameters(curve)}
            name = {"label": label, "id": b"\x01" + label[-2:].encode()}
            session.create_domain_parameters(kind, parameters, local=True).generate_keypair(**name, store=True, **more)

        for label, curve in {**CURVES, "koblitz": "secp256k1"}.items():
            pair(kinds.EC, curve, label)
        pair(kinds.EC_EDWARDS, "1.3.101.112", "ed25519", mechanism=library.Mechanism.EC_EDWARDS_KEY_PAIR_GEN)
        session.generate_keypair(kinds.RSA, 1024, label="rsa", store=True)
