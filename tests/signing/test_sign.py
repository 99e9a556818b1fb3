"""What is signed verifies, says what was put in, and is the same every time."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from signed_release import CLAIMS, FILES, MOMENT, codes, fill

from safeflux_signing import keys
from safeflux_signing.errors import InputError, UnsafeReleaseError
from safeflux_signing.keys import PrivateKey
from safeflux_signing.sign import sign
from safeflux_signing.verify import verify


def test_what_was_signed_verifies_and_says_what_was_put_in(release: Path, key: PrivateKey) -> None:
    verified = verify(release, [key.public_key()])
    assert {entry.name: entry.sha256 for entry in verified.entries} == {n: hashlib.sha256(d).hexdigest() for n, d in FILES.items()}
    assert verified.key_id == keys.key_id(key.public_key())
    assert verified.release is not None
    assert (verified.release.release_id, verified.release.sequence, verified.release.created) == ("demo-1.0", 3, MOMENT)
    assert [(claim.predicate_type, claim.predicate) for claim in verified.claims] == list(CLAIMS)
    assert all(claim.required for claim in verified.claims)
    with pytest.raises(FrozenInstanceError):
        verified.key_id = ""  # type: ignore[misc]


def test_the_directory_hash_is_what_coreutils_make_of_it(release: Path, key: PrivateKey) -> None:
    pipeline = "find . -type f ! -name model.sig ! -name claims.jsonl | cut -c3- | LC_ALL=C sort | xargs -r sha256sum | sha256sum"
    printed = subprocess.run(["sh", "-c", pipeline], cwd=release, capture_output=True, text=True, check=True).stdout
    assert verify(release, [key.public_key()]).digests["dirHash1"] == printed.split()[0]


def test_the_same_inputs_give_the_same_bytes(release: Path, key: PrivateKey, tmp_path: Path) -> None:
    again = fill(tmp_path / "elsewhere" / "release")
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=5))) + timedelta(microseconds=7)
    sign(again, key, release_id="demo-1.0", sequence=3, claims=CLAIMS, created=elsewhere)
    for name in ("model.sig", "claims.jsonl"):
        assert (again / name).read_bytes() == (release / name).read_bytes()


def test_signing_again_replaces_signature_and_claims(release: Path, key: PrivateKey) -> None:
    (release / "empty.txt").write_text("no longer")
    (release / ".model.sig.partial").write_text("left by a killed run")
    assert sign(release, key, release_id="demo-1.1", sequence=4) == release / "model.sig"
    verified = verify(release, [key.public_key()])
    assert verified.release is not None
    assert verified.release.release_id == "demo-1.1"
    assert verified.claims == ()
    assert sorted(path.name for path in release.iterdir()) == ["a", "a-b", "empty.txt", "model.sig", "model_index.json", "transformer"]


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_larger_curves_verify_too(bare: Path, key: PrivateKey, curve: ec.EllipticCurve) -> None:
    large = ec.generate_private_key(curve)
    sign(bare, large, release_id="x", sequence=0, claims=CLAIMS)
    assert verify(bare, [key.public_key(), large.public_key()]).key_id == keys.key_id(large.public_key())


def test_progress_counts_every_byte_once(bare: Path, key: PrivateKey) -> None:
    seen: list[tuple[int, int]] = []
    sign(bare, key, release_id="x", sequence=0, progress=lambda done, total: seen.append((done, total)))
    whole = sum(map(len, FILES.values()))
    assert seen[-1] == (whole, whole)
    assert seen == sorted(seen)


def test_everything_that_cannot_be_signed_is_listed_at_once(bare: Path, key: PrivateKey) -> None:
    (bare / "link").symlink_to("/etc/passwd")
    (bare / "folder").symlink_to("/etc")
    (bare / "hollow").mkdir()
    (bare / "back\\slash").write_text("")
    (bare / "MODEL_INDEX.json").write_text("")
    (bare / "signatures").mkdir()
    os.mkfifo(bare / "pipe")
    (bare.parent / "outside").hardlink_to(bare / "a-b")
    with pytest.raises(UnsafeReleaseError) as caught:
        sign(bare, key, release_id="x", sequence=0)
    assert codes(caught.value) == {
        ("link", "symlink"),
        ("folder", "symlink"),
        ("hollow", "empty-directory"),
        ("back\\slash", "name-backslash"),
        ("model_index.json", "name-collision"),
        ("signatures", "name-reserved"),
        ("pipe", "special-file"),
        ("a-b", "hard-link"),
    }
    assert not (bare / "model.sig").exists()


def test_a_directory_without_files_is_not_signed(tmp_path: Path, key: PrivateKey) -> None:
    with pytest.raises(UnsafeReleaseError) as caught:
        sign(tmp_path, key, release_id="x", sequence=0)
    assert codes(caught.value) == {(".", "no-files")}


@pytest.mark.parametrize(
    "wrong",
    [
        {"release_id": ""},
        {"release_id": "two\nlines"},
        {"sequence": -1},
        {"sequence": True},
        {"name": ""},
        {"name": "y"},
        {"name": "demo", "release_id": "demonstration-1.0"},
        {"claims": [("https://model_signing/signature/v1.0", {})]},
        {"claims": [("https://example.org/x", {"a": float("nan")})]},
        {"claims": [("https://example.org/x", {"a": b"bytes"})]},
        {"claims": [("https://example.org/x", {}), ("https://example.org/x", {})]},
        {"claims": [("https://example.org/x", "\ud800")]},
    ],
    ids=repr,
)
def test_values_that_cannot_stand_in_a_signature_are_refused_before_anything_is_written(
    bare: Path, key: PrivateKey, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InputError) as caught:
        sign(bare, key, **{"release_id": "x", "sequence": 0, **wrong})
    assert {code for _, code in codes(caught.value)} == {"release-field"}
    assert not (bare / "model.sig").exists()
    assert not (bare / "claims.jsonl").exists()


def test_a_signature_that_cannot_be_written_leaves_the_old_one_whole(
    release: Path, key: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (release / "model.sig").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError) as caught:
        sign(release, key, release_id="x", sequence=9, claims=CLAIMS)
    monkeypatch.undo()
    assert codes(caught.value) == {("claims.jsonl", "directory-unwritable")}
    assert (release / "model.sig").read_bytes() == before
    sign(release, key, release_id="x", sequence=9, claims=CLAIMS)
    assert verify(release, [key.public_key()]).release is not None


def test_created_defaults_to_now(bare: Path, key: PrivateKey) -> None:
    before = datetime.now(MOMENT.tzinfo).replace(microsecond=0)
    sign(bare, key, release_id="x", sequence=0)
    release = verify(bare, [key.public_key()]).release
    assert release is not None
    assert before <= release.created <= datetime.now(MOMENT.tzinfo)


def test_git_files_are_signed_with_a_warning(bare: Path, key: PrivateKey, caplog: pytest.LogCaptureFixture) -> None:
    (bare / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    sign(bare, key, release_id="x", sequence=0)
    assert ".gitattributes" in caplog.text
    assert ".gitattributes" in {entry.name for entry in verify(bare, [key.public_key()]).entries}


def test_a_moved_and_renamed_release_still_verifies(release: Path, key: PrivateKey, tmp_path: Path) -> None:
    moved = tmp_path / "other name"
    shutil.move(release, moved)
    link = tmp_path / "link"
    link.symlink_to(moved)
    assert verify(link, [key.public_key()]) == verify(moved, [key.public_key()])
