"""The same release under the reference implementation of OpenSSF Model Signing.

By hand: model_signing verify key RELEASE --signature RELEASE/model.sig --public_key PUB
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from signed_release import CLAIMS, FILES

from safeflux_signing.errors import TamperedError
from safeflux_signing.keys import KINDS, PrivateKey, load_private, new, public_pem
from safeflux_signing.sign import cosign, sign
from safeflux_signing.verify import verify

PYTHON = os.environ.get("SAFEFLUX_STOCK_SIGNING")

pytestmark = pytest.mark.skipif(
    not PYTHON,
    reason="to run it: python -m venv V && V/bin/pip install model-signing pyopenssl && SAFEFLUX_STOCK_SIGNING=V/bin/python pytest",
)


def _stock(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    # The stock tool warns about its own dependencies; our strictness about warnings is not for it.
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONWARNINGS", "PYTHONPATH")}
    command = [str(PYTHON), "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def _verify(release: Path, public: Path) -> subprocess.CompletedProcess[str]:
    return _stock("verify", "key", release, "--signature", release / "model.sig", "--public_key", public)


@pytest.fixture
def public(key: PrivateKey, tmp_path: Path) -> Path:
    path = tmp_path / "demo.pub"
    path.write_bytes(public_pem(key.public_key()))
    return path


def test_stock_accepts_what_we_sign(release: Path, public: Path) -> None:
    done = _verify(release, public)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_stock_reads_the_kinds_of_keys_that_are_said_to_be_stock(bare: Path, tmp_path: Path, kind: str) -> None:
    public = new(tmp_path / "demo.key", None, kind)
    sign(bare, load_private(tmp_path / "demo.key"), release_id="demo-1.0", sequence=1, claims=CLAIMS, name="demo")
    assert (_verify(bare, public).returncode == 0) == KINDS[kind].stock


def test_stock_accepts_a_release_that_several_have_signed(release: Path, public: Path, key: PrivateKey, other: PrivateKey) -> None:
    """And each of the further signatures, as a file of its own."""
    cosign(release, other, [key.public_key()])
    assert _verify(release, public).returncode == 0
    line = (release / "signatures.jsonl").read_bytes()
    (release / "signatures.jsonl").unlink()
    (release / "model.sig").write_bytes(line)
    public.write_bytes(public_pem(other.public_key()))
    assert _verify(release, public).returncode == 0


@pytest.mark.parametrize(
    "tamper",
    [
        lambda r: (r / "transformer/weights.safetensors").write_bytes(b"\x01" + FILES["transformer/weights.safetensors"][1:]),
        lambda r: (r / "evil.py").write_text(""),
        lambda r: (r / "empty.txt").unlink(),
    ],
    ids=["changed", "added", "removed"],
)
def test_stock_refuses_it_once_tampered(release: Path, public: Path, tamper: Callable[[Path], object]) -> None:
    tamper(release)
    assert _verify(release, public).returncode == 1


def test_we_accept_what_stock_signs_and_nothing_it_leaves_out(bare: Path, tmp_path: Path) -> None:
    path = tmp_path / "stock.key"
    new(path, None)
    arguments = ("--signature", bare / "model.sig", "--private_key", path)
    done = _stock("sign", "key", bare, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    keys = [load_private(path).public_key()]
    verified = verify(bare, keys)
    assert {entry.name for entry in verified.entries} == FILES.keys()
    assert verified.release is None
    (bare / ".gitignore").write_text("stock does not look here")
    assert _verify(bare, path.with_suffix(".pub")).returncode == 0
    with pytest.raises(TamperedError, match="gitignore: a file that was not signed"):
        verify(bare, keys)
