"""A copy is what was signed or there is none, with memory files and without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from signed_release import FILES, codes

from safeflux_signing import copies, tree
from safeflux_signing.errors import SigningError, TamperedError
from safeflux_signing.keys import PrivateKey
from safeflux_signing.manifest import Entry
from safeflux_signing.verify import verify

NAME = "transformer/weights.safetensors"


@pytest.fixture(params=["memory", "disk"])
def entry(release: Path, key: PrivateKey, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """The weights of a verified release; on systems that have memory files, and as on those that have none."""
    if request.param == "disk":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    elif not hasattr(os, "memfd_create"):
        pytest.skip("this system has no memory files")
    return next(entry for entry in verify(release, [key.public_key()]).entries if entry.name == NAME)


def test_a_copy_stays_what_it_was(release: Path, entry: Entry) -> None:
    with tree.opened(release) as root, copies.sealed(root, entry) as path:
        (release / NAME).write_bytes(b"evil")
        for _ in range(2):
            assert Path(path).read_bytes() == FILES[NAME]
    assert not Path(path).exists()


def test_a_changed_file_gives_no_copy_and_leaves_nothing_open(release: Path, entry: Entry) -> None:
    data = FILES[NAME]
    before = len(list(Path("/dev/fd").iterdir()))
    for changed in (b"", data[:-1], data + b"x", bytes([data[0] ^ 1]) + data[1:]):
        (release / NAME).write_bytes(changed)
        with tree.opened(release) as root:
            with pytest.raises(TamperedError) as sealed, copies.sealed(root, entry):
                pytest.fail("there was a copy")
            with pytest.raises(TamperedError) as content:
                copies.content(root, entry, 1 << 20)
        for caught in (sealed, content):
            assert codes(caught.value) == {(NAME, "file-changed")}
            assert caught.value.findings[0].expected == entry.sha256
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_links_pipes_and_nothing_give_no_copy(release: Path, entry: Entry, tmp_path: Path) -> None:
    (tmp_path / "same").write_bytes(FILES[NAME])
    for place in (lambda path: None, lambda path: path.symlink_to(tmp_path / "same"), os.mkfifo):
        (release / NAME).unlink(missing_ok=True)
        place(release / NAME)
        with tree.opened(release) as root, pytest.raises(SigningError) as caught, copies.sealed(root, entry):
            pytest.fail("there was a copy")
        assert codes(caught.value) == {(NAME, "unreadable")}


def test_a_small_file_is_given_whole_or_not_at_all(release: Path, entry: Entry) -> None:
    with tree.opened(release) as root:
        assert copies.content(root, entry, len(FILES[NAME])) == FILES[NAME]
        with pytest.raises(SigningError) as caught:
            copies.content(root, entry, len(FILES[NAME]) - 1)
    assert codes(caught.value) == {(NAME, "too-large")}
