"""The battery of tampers: nothing in it gets past us, and docs/tampering.md says what happened."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from battery import BATTERY, DOCUMENT, NOT_SIGNED, document, ours, tampered
from tampers import Tamper

from safeflux_signing.keys import PrivateKey, public_pem

PYTHON = os.environ.get("SAFEFLUX_STOCK_SIGNING")
EVERY = [pytest.param(tamper, id=f"{title}: {tamper.what}") for title, tampers in BATTERY.items() for tamper in tampers]


@pytest.mark.parametrize("tamper", EVERY)
def test_it_is_refused(tamper: Tamper, tmp_path: Path, key: PrivateKey) -> None:
    assert ours(tamper, tmp_path, key)


NOTHING = [Tamper("nothing", lambda r, k: None), Tamper("nothing, cosigned", lambda r, k: None, cosigned=True)]


@pytest.mark.parametrize("tamper", [*NOTHING, *NOT_SIGNED], ids=lambda tamper: tamper.what)
def test_what_changes_no_content_is_accepted(tamper: Tamper, tmp_path: Path, key: PrivateKey) -> None:
    assert ours(tamper, tmp_path, key) == set()


def test_the_document_says_what_happens() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "python tests/signing/battery.py writes it anew"


@pytest.mark.skipif(not PYTHON, reason="needs a Python with model-signing; see test_stock.py")
@pytest.mark.parametrize("tamper", [*EVERY, *NOT_SIGNED])
def test_the_reference_verifier_does_what_the_document_says(tamper: Tamper, tmp_path: Path, key: PrivateKey) -> None:
    (tmp_path / "demo.pub").write_bytes(public_pem(key.public_key()))
    release = tampered(tamper, tmp_path, key)
    options = [option.format(release) for option in tamper.options]
    command = [PYTHON, "-m", "model_signing", "verify", "key", release, "--signature", release / "model.sig"]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONWARNINGS", "PYTHONPATH")}
    done = subprocess.run(
        [*map(str, command), "--public_key", str(tmp_path / "demo.pub"), *options],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert (done.returncode == 0) == tamper.stock, done.stdout + done.stderr
