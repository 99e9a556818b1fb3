"""Files written whole or not at all, and digests that see whatever changes."""

from __future__ import annotations

from pathlib import Path

from safeflux.files import source_digest, write_atomic


def test_source_digest_sees_a_changed_line_a_new_file_and_a_new_name(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "one.py").write_text("x = 1\n")
    seen = {source_digest(package)}
    assert source_digest(package) in seen
    (package / "one.py").write_text("x = 2\n")
    seen.add(source_digest(package))
    (package / "two.py").write_text("")
    seen.add(source_digest(package))
    (package / "two.py").rename(package / "three.py")
    assert len(seen | {source_digest(package)}) == 4


def test_write_atomic_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.json", "one")
    write_atomic(tmp_path / "a.json", "two")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "two"
