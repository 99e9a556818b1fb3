"""Whom ``load`` goes by: keys and trust files of the user's, and nothing that a release brings along. Nothing is loaded here."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pytest

import safeflux
from safeflux.errors import TrustError
from safeflux_signing import keys, trustfile
from safeflux_signing.sign import sign
from safeflux_signing.trust import TrustedKey, TrustStore


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A directory signed by ``publisher.key`` beside it, with that key and a trust file both in it and beside it."""
    for name in ("publisher", "other"):
        keys.new(tmp_path / f"{name}.key", None)
    key = keys.load_private(tmp_path / "publisher.key")
    (tmp_path / "trust.toml").write_bytes(trustfile.dumps(TrustStore((TrustedKey(key.public_key(), "Acme"),))))
    (tmp_path / "release").mkdir()
    for name in ("publisher.pub", "trust.toml"):
        shutil.copy(tmp_path / name, tmp_path / "release")
    sign(tmp_path / "release", key, release_id="x-1.0", sequence=1)
    return tmp_path / "release"


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What there was to be loaded, instead of loading it."""
    calls: list[object] = []
    monkeypatch.setattr(importlib.import_module("safeflux.load"), "_pipeline", lambda *arguments: calls.append(arguments))
    return calls


def test_one_of_several_trusted_keys_is_enough(release: Path, loaded: list[object]) -> None:
    safeflux.load(str(release), trust=[release.parent / "other.pub", str(release.parent / "publisher.pub")])
    assert len(loaded) == 1


def test_a_trust_file_will_do_and_what_was_read_from_it(release: Path, loaded: list[object]) -> None:
    file = release.parent / "trust.toml"
    for trust in (file, str(file), [file], trustfile.read(file), TrustStore(trustfile.read(file).entries)):
        safeflux.load(release, trust=trust)
    assert len(loaded) == 5


@pytest.mark.parametrize("trust", [["other.pub"], [], ["missing.pub"], ["publisher.key"]], ids=["other", "none", "missing", "private"])
def test_refuses_without_a_trusted_key(release: Path, loaded: list[object], trust: list[str]) -> None:
    with pytest.raises(TrustError, match="not loaded"):
        safeflux.load(release, trust=[release.parent / name for name in trust])
    assert loaded == []


@pytest.mark.parametrize("way", ["key", "link", "trust file", "what was read from it"])
def test_a_key_that_the_release_brings_along_is_never_trusted(release: Path, loaded: list[object], way: str) -> None:
    link = release.parent / "link.pub"
    link.symlink_to(release / "publisher.pub")
    given = {"key": release / "publisher.pub", "link": [link], "trust file": str(release / "trust.toml")}
    with pytest.raises(TrustError, match="lies in the release that it is to vouch for"):
        safeflux.load(release, trust=given.get(way) or trustfile.read(release / "trust.toml"))
    assert loaded == []
