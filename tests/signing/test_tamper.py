"""Change anything about a signed release and it is refused, for the right reason, by name."""

from __future__ import annotations

import os
import random
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from signed_release import FILES, codes

from safeflux_signing.errors import BadSignatureError, InputError, SigningError, TamperedError, UnsafeReleaseError, UntrustedKeyError
from safeflux_signing.keys import PrivateKey, key_id
from safeflux_signing.verify import verify

Refuse = Callable[[Path], SigningError]


@pytest.mark.parametrize("name", [name for name in FILES if FILES[name]])
def test_a_flipped_bit_anywhere_in_a_file_names_the_file(release: Path, refused: Refuse, name: str) -> None:
    data = FILES[name]
    for place in sorted({0, len(data) // 2, len(data) - 1}):
        (release / name).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        error = refused(release)
        assert isinstance(error, TamperedError)
        assert codes(error) == {(name, "file-changed")}
        assert error.findings[0].expected != error.findings[0].actual


@pytest.mark.parametrize("name", ["model.sig", "claims.jsonl"])
def test_no_byte_of_a_side_file_can_differ(release: Path, refused: Refuse, name: str) -> None:
    data = (release / name).read_bytes()
    rng = random.Random(name)
    for place in range(len(data)):
        # Every byte outside the long base64 text; in it every nineteenth, for time.
        if place % 19 and data[place - 1 : place + 2].isalnum():
            continue
        change = rng.choice([1, 2, 4, 8, 16, 32, 64, 128])
        (release / name).write_bytes(data[:place] + bytes([data[place] ^ change]) + data[place + 1 :])
        error = refused(release)
        assert name in {finding.file for finding in error.findings}, place
        assert error.exit_code in (11, 12, 14, 16), place


@pytest.mark.parametrize("name", ["model.sig", "claims.jsonl"])
@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"\n", lambda d: b" " + d, lambda d: d.replace(b":", b": ", 1)])
def test_side_files_are_written_one_way_only(release: Path, refused: Refuse, name: str, change: Callable[[bytes], bytes]) -> None:
    (release / name).write_bytes(change((release / name).read_bytes()))
    error = refused(release)
    assert isinstance(error, UnsafeReleaseError)
    assert {finding.file for finding in error.findings} == {name}


@pytest.mark.parametrize(
    "name",
    [
        "evil.py",
        ".hidden",
        "transformer/empty",
        ".git/hooks/post-checkout",
        ".gitattributes",
        "sub/.git/x",
        ".model.sig.partial",
        "Signatures/x",
    ],
)
def test_an_added_file_is_named(release: Path, refused: Refuse, name: str) -> None:
    path = release / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    expected = "name-collision" if name.startswith("Sig") else "file-added"
    assert expected in {finding.code for finding in refused(release).findings}
    assert name in {finding.file for finding in refused(release).findings}


def test_hard_links_and_lookalike_names_are_added_files(release: Path, refused: Refuse) -> None:
    (release / "copy").hardlink_to(release / "a-b")
    assert codes(refused(release)) == {("copy", "file-added")}
    (release / "copy").unlink()
    lookalike = unicodedata.normalize("NFD", "caf\u00e9")
    (release / lookalike).write_text("")
    assert codes(refused(release)) == {(lookalike, "name-not-nfc")}


def test_a_file_with_another_name_outside_is_refused_and_still_held_against_the_manifest(
    release: Path, refused: Refuse, key: PrivateKey, tmp_path: Path
) -> None:
    for name in ("a-b", "a/x", "claims.jsonl"):
        (tmp_path / Path(name).name).hardlink_to(release / name)
    error = refused(release)
    assert isinstance(error, UnsafeReleaseError)
    assert codes(error) == {("a-b", "hard-link"), ("a/x", "hard-link"), ("claims.jsonl", "hard-link")}
    (tmp_path / "a-b").write_text("written from outside")
    assert ("a-b", "file-changed") in codes(refused(release))
    (tmp_path / "a-b").write_bytes(FILES["a-b"])
    for name in ("a-b", "x", "claims.jsonl"):
        (tmp_path / name).unlink()
    verify(release, [key.public_key()])


def test_names_inside_do_not_make_up_for_one_outside(release: Path, refused: Refuse, tmp_path: Path) -> None:
    (release / "copy").hardlink_to(release / "a-b")
    (tmp_path / "outside").hardlink_to(release / "a-b")
    assert codes(refused(release)) == {("a-b", "hard-link"), ("copy", "hard-link"), ("copy", "file-added")}


def test_a_removed_renamed_or_swapped_file_is_named(release: Path, refused: Refuse) -> None:
    (release / "empty.txt").unlink()
    (release / "a-b").rename(release / "a-c")
    shutil.copy(release / "model_index.json", release / "a" / "x")
    error = refused(release)
    assert isinstance(error, TamperedError)
    assert codes(error) == {("empty.txt", "file-removed"), ("a-b", "file-removed"), ("a-c", "file-added"), ("a/x", "file-changed")}


def test_links_pipes_and_empty_directories_are_refused(release: Path, refused: Refuse, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    shutil.copytree(release / "a", outside)
    shutil.rmtree(release / "a")
    (release / "a").symlink_to(outside)
    (release / "a-b").unlink()
    os.mkfifo(release / "a-b")
    (release / "empty").mkdir()
    error = refused(release)
    assert isinstance(error, UnsafeReleaseError)
    assert codes(error) == {("a", "symlink"), ("a/x", "file-removed"), ("a-b", "special-file"), ("empty", "empty-directory")}


@pytest.mark.parametrize("name", ["model.sig", "claims.jsonl"])
def test_a_side_file_must_be_a_plain_file(release: Path, refused: Refuse, tmp_path: Path, name: str) -> None:
    copy = shutil.copy(release / name, tmp_path / "copy")
    (release / name).unlink()
    (release / name).symlink_to(copy)
    assert codes(refused(release)) == {(name, "symlink")}
    (release / name).unlink()
    (release / name).mkdir()
    assert codes(refused(release)) == {(name, "special-file")}


def test_a_release_too_deep_or_unreadable_is_refused(release: Path, refused: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    path = release
    for _ in range(40):
        path /= "d"
        path.mkdir()
    (path / "f").write_text("")
    assert "too-deep" in {finding.code for finding in refused(release).findings}
    shutil.rmtree(release / "d")
    read = os.readv

    def fail(*args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "readv", fail)
    assert {finding.code for finding in refused(release).findings} == {"unreadable"}
    monkeypatch.setattr(os, "readv", read)


def test_a_file_that_grows_while_it_is_read_is_refused(release: Path, refused: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    target = release / "a-b"
    inode, read = target.stat().st_ino, os.readv

    def grow(file: int, buffers: list[bytearray]) -> int:
        if os.fstat(file).st_ino == inode:
            with target.open("ab") as stream:
                stream.write(b"!")
        return read(file, buffers) if target.stat().st_size < 9 else 0

    monkeypatch.setattr(os, "readv", grow)
    assert ("a-b", "unreadable") in codes(refused(release))


def test_signatures_by_other_keys_or_none_are_not_trusted(release: Path, key: PrivateKey, other: PrivateKey, tmp_path: Path) -> None:
    with pytest.raises(UntrustedKeyError) as unknown:
        verify(release, [other.public_key()])
    assert codes(unknown.value) == {("model.sig", "key-unknown")}
    assert verify(release, [other.public_key(), key.public_key()]).key_id == key_id(key.public_key())
    with pytest.raises(UntrustedKeyError) as none:
        verify(release, [])
    assert codes(none.value) == {("model.sig", "no-key")}
    (release / "model.sig").unlink()
    with pytest.raises(BadSignatureError) as missing:
        verify(release, [key.public_key()])
    assert codes(missing.value) == {("model.sig", "signature-missing")}
    with pytest.raises(InputError) as nowhere:
        verify(tmp_path / "nowhere", [key.public_key()])
    assert {finding.code for finding in nowhere.value.findings} == {"directory-unreadable"}


def test_every_finding_says_what_to_do(release: Path, refused: Refuse) -> None:
    (release / "a-b").write_text("2")
    (release / "evil\x1b[2J").write_text("")
    error = refused(release)
    assert all(finding.remedy for finding in error.findings)
    assert "\x1b" not in str(error)
    assert "evil\\x1b[2J" in str(error)
