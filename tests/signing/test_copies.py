"""A copy is what was signed or there is none: of whole files where memory can be sealed, in pieces everywhere."""

from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from signed_release import FILES, codes

from safeflux_signing import copies, tree
from safeflux_signing.copies import BLOCK, Pieces
from safeflux_signing.errors import SigningError, TamperedError
from safeflux_signing.keys import PrivateKey
from safeflux_signing.manifest import Entry
from safeflux_signing.sign import sign
from safeflux_signing.verify import verify

NAME = "transformer/weights.safetensors"
NO_SEALS = pytest.mark.skipif(not copies.can_seal(), reason="this system can seal no memory")

Open = Callable[[int, Entry], object]


def sealed(root: int, entry: Entry) -> object:
    with copies.sealed(root, entry) as path:
        return Path(path).read_bytes()


WAYS = pytest.mark.parametrize(
    "way", [pytest.param(sealed, marks=NO_SEALS), Pieces, lambda root, entry: copies.content(root, entry, 1 << 20)]
)


@pytest.fixture
def entry(release: Path, key: PrivateKey) -> Entry:
    """The weights of a verified release."""
    return entry_of(release, key)


def entry_of(release: Path, key: PrivateKey) -> Entry:
    return next(entry for entry in verify(release, [key.public_key()]).entries if entry.name == NAME)


@NO_SEALS
def test_a_copy_stays_what_it_was(release: Path, entry: Entry) -> None:
    with tree.opened(release) as root, copies.sealed(root, entry) as path:
        (release / NAME).write_bytes(b"evil")
        for _ in range(2):
            assert Path(path).read_bytes() == FILES[NAME]
    assert not Path(path).exists()


@WAYS
def test_a_changed_file_gives_no_copy_and_leaves_nothing_open(release: Path, entry: Entry, way: Open) -> None:
    data = FILES[NAME]
    before = len(list(Path("/dev/fd").iterdir()))
    for changed in (b"", data[:-1], data + b"x", bytes([data[0] ^ 1]) + data[1:]):
        (release / NAME).write_bytes(changed)
        with tree.opened(release) as root, pytest.raises(TamperedError) as caught:
            way(root, entry)
        assert codes(caught.value) == {(NAME, "file-changed")}
        assert caught.value.findings[0].expected == entry.sha256
        assert len(list(Path("/dev/fd").iterdir())) == before


@WAYS
def test_links_pipes_and_nothing_give_no_copy(release: Path, entry: Entry, tmp_path: Path, way: Open) -> None:
    (tmp_path / "same").write_bytes(FILES[NAME])
    for place in (lambda path: None, lambda path: path.symlink_to(tmp_path / "same"), os.mkfifo):
        (release / NAME).unlink(missing_ok=True)
        place(release / NAME)
        with tree.opened(release) as root, pytest.raises(SigningError) as caught:
            way(root, entry)
        assert codes(caught.value) == {(NAME, "unreadable")}


def test_a_small_file_is_given_whole_or_not_at_all(release: Path, entry: Entry) -> None:
    with tree.opened(release) as root:
        assert copies.content(root, entry, len(FILES[NAME])) == FILES[NAME]
        with pytest.raises(SigningError) as caught:
            copies.content(root, entry, len(FILES[NAME]) - 1)
    assert codes(caught.value) == {(NAME, "too-large")}


@pytest.fixture(params=[0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 7])
def large(bare: Path, key: PrivateKey, request: pytest.FixtureRequest) -> tuple[Path, Entry, bytes]:
    """A signed release, the entry of a file of that size in it, and what is in the file."""
    data = random.Random(request.param).randbytes(request.param)
    (bare / NAME).write_bytes(data)
    sign(bare, key, release_id="x", sequence=1)
    return bare, entry_of(bare, key), data


def test_pieces_are_those_of_the_file(large: tuple[Path, Entry, bytes]) -> None:
    """Wherever they begin and end, for any number of threads; and none is read beyond the end, or when it is over."""
    release, entry, data = large
    rng = random.Random(0)
    edges = {0, len(data), *(place for block in (BLOCK, 2 * BLOCK, 3 * BLOCK) for place in (block - 1, block, block + 1))}
    ranges = [(a, b) for a in edges for b in edges if a <= b <= len(data)]
    ranges += [tuple(sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))) for _ in range(20)]  # type: ignore[misc]
    with tree.opened(release) as root:
        pieces = Pieces(root, entry)
    assert pieces.size == len(data)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda one: pieces.read(*one), ranges)) == [data[a:b] for a, b in ranges]
    for wrong in ((0, len(data) + 1), (-1, 0), (1, 0)):
        with pytest.raises(ValueError, match="no bytes"):
            pieces.read(*wrong)
    pieces.close()
    with pytest.raises(ValueError, match="closed"):
        pieces.read(0, 0)


@pytest.mark.parametrize("large", [3 * BLOCK + 7], indirect=True)
@pytest.mark.parametrize("place", [0, BLOCK - 1, BLOCK, 2 * BLOCK + 5, 3 * BLOCK + 6])
def test_a_byte_changed_while_the_file_is_open_is_not_read(large: tuple[Path, Entry, bytes], place: int) -> None:
    """What does not lie in the same block is what was signed, and is given; so is everything when the byte is put back."""
    release, entry, data = large
    with tree.opened(release) as root:
        pieces = Pieces(root, entry)
    block = place // BLOCK * BLOCK
    with (release / NAME).open("r+b") as file:
        file.seek(place)
        file.write(bytes([data[place] ^ 128]))
    for start, stop in ((place, place + 1), (0, len(data)), (block, block + 1)):
        with pytest.raises(TamperedError) as caught:
            pieces.read(start, stop)
        assert codes(caught.value) == {(NAME, "file-changed")}
    assert pieces.read(0, block) == data[:block]
    assert pieces.read(min(block + BLOCK, len(data)), len(data)) == data[block + BLOCK :]
    (release / NAME).write_bytes(data)
    assert pieces.read(0, len(data)) == data


@pytest.mark.parametrize("large", [3 * BLOCK], indirect=True)
def test_a_file_cut_short_or_exchanged_while_it_is_open(large: tuple[Path, Entry, bytes]) -> None:
    release, entry, data = large
    with tree.opened(release) as root:
        pieces = Pieces(root, entry)
    (release / NAME).rename(release / "moved")
    (release / NAME).write_bytes(bytes(len(data)))
    assert pieces.read(0, len(data)) == data, "the file that was opened is the one that is read"
    os.truncate(release / "moved", 2 * BLOCK)
    assert pieces.read(0, 2 * BLOCK) == data[: 2 * BLOCK]
    with pytest.raises(TamperedError):
        pieces.read(2 * BLOCK, 2 * BLOCK + 1)


def test_a_piece_takes_its_own_memory_and_that_of_a_few_blocks(bare: Path, key: PrivateKey) -> None:
    (bare / NAME).write_bytes(bytes(32 * BLOCK))
    sign(bare, key, release_id="x", sequence=1)
    entry = entry_of(bare, key)
    with tree.opened(bare) as root:
        tracemalloc.start()
        pieces = Pieces(root, entry)
        opening = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        piece = pieces.read(BLOCK // 2, 8 * BLOCK)
        reading = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert opening < 3 * BLOCK
    assert len(piece) < reading < len(piece) + 3 * BLOCK


def test_a_system_gives_less_than_it_is_asked_for(release: Path, entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    read = os.pread
    monkeypatch.setattr(os, "pread", lambda file, count, place: read(file, min(count, 100), place))
    with tree.opened(release) as root:
        assert Pieces(root, entry).read(0, len(FILES[NAME])) == FILES[NAME]


@NO_SEALS
@pytest.mark.parametrize("lacks", ["memory files", "seals", "/proc", "leave"])
def test_where_memory_cannot_be_sealed_is_known(monkeypatch: pytest.MonkeyPatch, lacks: str) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError

    if lacks == "memory files":
        monkeypatch.delattr(os, "memfd_create")
    elif lacks == "leave":
        monkeypatch.setattr(os, "memfd_create", refuse)
    elif lacks == "seals":
        monkeypatch.setattr(copies, "_seal", refuse)
    else:
        monkeypatch.setattr(copies, "_PATH", "/nowhere/{}")
    assert not copies.can_seal.__wrapped__()
