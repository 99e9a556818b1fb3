"""Who signs a release is known before anything is prepared."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import release_fakes as fakes

from safeflux.errors import PlanError
from safeflux.release import release
from safeflux.verify import verify
from safeflux_signing import keys
from safeflux_signing.signers import KeySigner


def test_without_a_key_it_stops_before_anything_is_prepared(policy: Path, tmp_path: Path) -> None:
    policy.write_text(fakes.POLICY.replace("signing: {key: publisher.key}\n", ""))
    with pytest.raises(PlanError, match="safeflux keys new"):
        release(policy, out=tmp_path / "run")
    assert not fakes.calls
    given = release(policy, out=tmp_path / "run", key=tmp_path / "publisher.key")
    assert given.public_key == tmp_path / "publisher.pub"


def test_whoever_holds_a_key_signs_it(policy: Path, tmp_path: Path) -> None:
    """A key that lies in no file, such as one on a token."""
    policy.write_text(fakes.POLICY.replace("signing: {key: publisher.key}\n", ""))
    signer = KeySigner(keys.KINDS["ed25519"].make())
    made = release(policy, out=tmp_path / "run", key=signer)
    assert made.public_key is None
    signed = verify(made.release_dir, [signer.public_key()]).release
    assert signed is not None
    assert signed.name == made.report.name


def test_a_key_that_cannot_be_read_stops_it_too(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "publisher.key").write_text("no key")
    with pytest.raises(PlanError, match=r"publisher\.key"):
        release(policy, out=tmp_path / "run")
    assert not fakes.calls


def test_demo_key_is_made_once_and_said_loudly_to_be_worthless(policy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    policy.write_text(fakes.POLICY.replace("key: publisher.key", "demo: true"))
    for _ in range(2):
        with caplog.at_level(logging.WARNING, "safeflux"):
            result = release(policy, out=tmp_path / "run")
        assert "THROW-AWAY" in caplog.text
        caplog.clear()
    assert result.public_key == tmp_path / "run" / "work" / "demo.pub"
    assert (tmp_path / "run" / "work" / "demo.key").stat().st_mode & 0o077 == 0
    verify(result.release_dir, [keys.load_public(result.public_key)])
    assert fakes.calls["erase"] == 1
