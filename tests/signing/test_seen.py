"""A release older than one that was seen is refused, and what was seen is not forgotten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from signed_release import codes

from safeflux_signing.errors import Finding, InputError, LimitError, RevokedError, SigningError, found
from safeflux_signing.keys import PrivateKey
from safeflux_signing.sign import sign
from safeflux_signing.trust import TrustedKey, TrustStore
from safeflux_signing.verify import Verified, verify

SIGNATURE = "model.sig"


@pytest.fixture
def store(key: PrivateKey, tmp_path: Path) -> TrustStore:
    return TrustStore((TrustedKey(key.public_key(), "Acme"),), remember="trust.seen.json", home=tmp_path / "config")


def _refused(directory: Path, store: TrustStore) -> SigningError:
    with pytest.raises(SigningError) as caught:
        verify(directory, store)
    return caught.value


def test_a_lower_sequence_of_the_same_name_is_refused(bare: Path, key: PrivateKey, store: TrustStore) -> None:
    def release(name: str, sequence: int) -> None:
        sign(bare, key, release_id=f"{name}-{sequence}", sequence=sequence, name=name)

    for name, sequence in (("demo", 5), ("demo", 5), ("other", 1), ("demo", 9), ("demo", 2**53 - 1)):
        release(name, sequence)
        verify(bare, store)
    for name, sequence in (("demo", 9), ("other", 0)):
        release(name, sequence)
        caught = _refused(bare, store)
        assert isinstance(caught, RevokedError)
        assert (codes(caught), caught.exit_code) == ({(SIGNATURE, "release-rollback")}, 13)
    release("demo", 9)
    verify(bare, TrustStore(store.entries))


def test_only_a_verified_release_is_remembered(bare: Path, key: PrivateKey, store: TrustStore) -> None:
    sign(bare, key, release_id="demo-9", sequence=9, name="demo")
    (bare / "a-b").write_text("changed")
    assert codes(_refused(bare, store)) == {("a-b", "file-changed")}
    assert not (store.home / "trust.seen.json").exists()


def test_one_that_falls_short_of_what_its_user_asks_for_is_not_remembered(bare: Path, key: PrivateKey, store: TrustStore) -> None:
    """Else it would lock out the older one that the user goes back to."""
    asked: list[int] = []

    def hold(verified: Verified) -> list[Finding]:
        assert verified.release
        asked.append(verified.release.sequence)
        return [found("limit-missed", "claims.jsonl", "drawn too often")] if verified.release.sequence == 9 else []

    sign(bare, key, release_id="demo-9", sequence=9, name="demo")
    with pytest.raises(LimitError):
        verify(bare, store, hold=hold)
    assert not (store.home / "trust.seen.json").exists()
    sign(bare, key, release_id="demo-8", sequence=8, name="demo")
    assert verify(bare, store, hold=hold).release
    sign(bare, key, release_id="demo-7", sequence=7, name="demo")
    with pytest.raises(RevokedError):
        verify(bare, store, hold=hold)
    assert asked == [9, 8]


def test_a_release_that_does_not_say_which_one_it_is_cannot_be_held_against_others(bare: Path, key: PrivateKey, store: TrustStore) -> None:
    sign(bare, key, release_id="demo-9", sequence=9)
    assert codes(_refused(bare, store)) == {(SIGNATURE, "release-rollback")}


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"[]", b"\xff", b'{"format": "safeflux-seen/2", "highest": {}}', b'{"format": "safeflux-seen/1", "highest": []}',
        b'{"format": "safeflux-seen/1", "highest": {"demo": "9"}}', b'{"format": "safeflux-seen/1", "highest": {"demo": true}}',
    ],
)  # fmt: skip
def test_a_memory_that_cannot_be_read_is_not_begun_anew(bare: Path, key: PrivateKey, store: TrustStore, data: bytes) -> None:
    sign(bare, key, release_id="demo-9", sequence=9, name="demo")
    store.home.mkdir()
    path = store.home / "trust.seen.json"
    path.write_bytes(data)
    caught = _refused(bare, store)
    assert isinstance(caught, InputError)
    assert {finding.code for finding in caught.findings} == {"seen-invalid"}
    assert path.read_bytes() == data


def test_a_memory_that_cannot_be_written_is_said(bare: Path, key: PrivateKey, store: TrustStore, monkeypatch: pytest.MonkeyPatch) -> None:
    sign(bare, key, release_id="demo-9", sequence=9, name="demo")
    store.home.write_text("no directory")
    assert {finding.code for finding in _refused(bare, store).findings} == {"seen-unwritable"}
    store.home.unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    verify(bare, store)
    sign(bare, key, release_id="demo-10", sequence=10, name="demo")
    before = (store.home / "trust.seen.json").read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    assert {finding.code for finding in _refused(bare, store).findings} == {"seen-unwritable"}
    assert (store.home / "trust.seen.json").read_bytes() == before
