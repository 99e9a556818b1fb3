"""A workspace keeps what is finished, makes again what is not, and never shows half of anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from safeflux.errors import WorkspaceError
from safeflux.files import tree, write_atomic
from safeflux.workspace import Done, Make, key, open_workspace


def writer(text: str, calls: list[str] | None = None) -> Make:
    def make(out: Path, scratch: Path) -> None:
        if calls is not None:
            calls.append(text)
        (out / "sub").mkdir()
        (out / "sub" / "file.txt").write_text(text)

    return make


def never(out: Path, scratch: Path) -> None:
    raise AssertionError("a finished stage was made again")


def test_key_depends_on_the_parts_and_not_on_their_order() -> None:
    assert key("erase", {"a": 1, "b": [2]}) == key("erase", {"b": [2], "a": 1})
    assert len({key("erase", {"a": 1}), key("erase", {"a": 2}), key("bake", {"a": 1})}) == 3


def test_finished_stage_is_kept(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        first = workspace.stage("erase", "k1", writer("one"))
    with open_workspace(tmp_path) as workspace:
        second = workspace.stage("erase", "k1", never)
    assert not first.kept
    assert second.kept
    assert first.files == second.files
    assert list(first.files) == ["sub/file.txt"]
    assert first.digest == second.digest


@pytest.mark.parametrize(
    "spoil",
    [
        lambda stage: (stage / "sub" / "file.txt").write_text("two"),
        lambda stage: (stage / "sub" / "file.txt").unlink(),
        lambda stage: (stage / "extra").write_text(""),
        lambda stage: (stage / "done.json").unlink(),
        lambda stage: (stage / "done.json").write_text("{"),
        lambda stage: (stage / "done.json").write_text("[]"),
    ],
    ids=["changed", "lost", "added", "no record", "half a record", "wrong record"],
)
def test_spoiled_stage_is_made_again(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    calls: list[str] = []
    with open_workspace(tmp_path) as workspace:
        first = workspace.stage("erase", "k1", writer("one", calls))
        spoil(tmp_path / "work" / "erase")
        again = workspace.stage("erase", "k1", writer("one", calls))
    assert calls == ["one", "one"]
    assert again == Done("erase", "k1", first.files, kept=False)
    assert {**first.files, "done.json": "x"}.keys() == tree(tmp_path / "work" / "erase").keys()


def test_other_key_makes_it_again_and_replaces_everything(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.stage("erase", "k1", lambda out, scratch: write_atomic(out / "old.txt", "old"))
        workspace.stage("erase", "k2", writer("new"))
    assert sorted(tree(tmp_path / "work" / "erase")) == ["done.json", "sub/file.txt"]


def test_scratch_survives_a_failure_of_its_own_key_only(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def fails(out: Path, scratch: Path) -> None:
        seen.append(sorted(p.name for p in scratch.iterdir()))
        (scratch / "checkpoint").write_text("12")
        raise RuntimeError("power cut")

    def looks(out: Path, scratch: Path) -> None:
        seen.append(sorted(p.name for p in scratch.iterdir()))

    for name in ("k1", "k1", "k2"):
        with pytest.raises(RuntimeError, match="power cut"), open_workspace(tmp_path) as workspace:
            workspace.stage("erase", name, fails)
    with open_workspace(tmp_path) as workspace:
        workspace.stage("erase", "k2", looks)
    assert seen == [[], ["checkpoint"], [], ["checkpoint"]]
    assert not list((tmp_path / "work").glob("*.scratch-*"))
    assert not list((tmp_path / "work").glob("*.partial-*"))


def test_lasting_scratch_outlives_the_stage_and_its_key(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def draws(out: Path, scratch: Path) -> None:
        seen.append(sorted(p.name for p in scratch.iterdir()))
        (scratch / "drawings").write_text("dear")

    with open_workspace(tmp_path) as workspace:
        for key_, lasting in (("k1", "pictures"), ("k2", "pictures"), ("k3", "others")):
            workspace.stage("audit", key_, draws, lasting=lasting)
    assert seen == [[], ["drawings"], []]
    assert [p.name for p in (tmp_path / "work").glob("*.scratch-*")] == ["audit.scratch-others"]


def test_published_directory_bears_its_name_while_it_is_made(tmp_path: Path) -> None:
    names: list[str] = []
    with open_workspace(tmp_path) as workspace:
        workspace.publish("sign", "k1", "release", lambda out, scratch: names.append(out.name))
    assert names == ["release"]
    assert list((tmp_path / "work").glob("*.partial-*")) == []


def test_two_runs_in_one_directory_are_refused(tmp_path: Path) -> None:
    with open_workspace(tmp_path), pytest.raises(WorkspaceError, match="another run"), open_workspace(tmp_path):
        pass
    with open_workspace(tmp_path):
        pass


def test_work_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    thesis = tmp_path / "work" / "thesis.partial-3.tex"
    thesis.parent.mkdir()
    thesis.write_text("years")
    with pytest.raises(WorkspaceError, match=r"thesis\.partial-3\.tex"), open_workspace(tmp_path):
        pass
    assert thesis.read_text() == "years"


@pytest.mark.parametrize("marker", ['{"format": 99}', "{", "[]"])
def test_workspace_of_another_format_is_refused(tmp_path: Path, marker: str) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "workspace.json").write_text(marker)
    with pytest.raises(WorkspaceError, match="--out"), open_workspace(tmp_path):
        pass


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(WorkspaceError, match="--out"), open_workspace(tmp_path / "run"):
        pass


@pytest.mark.parametrize("path", ["README.md", "vae/notes.txt", "done.json"])
def test_foreign_file_in_the_release_is_refused_and_left(tmp_path: Path, path: str) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.publish("sign", "k1", "release", writer("one"))
        foreign = tmp_path / "release" / path
        foreign.parent.mkdir(exist_ok=True)
        foreign.write_text("mine")
        with pytest.raises(WorkspaceError, match="was not put there"):
            workspace.publish("sign", "k2", "release", writer("two"))
        with pytest.raises(WorkspaceError, match="was not put there"):
            workspace.withdraw("sign", "release")
    assert foreign.read_text() == "mine"
    assert (tmp_path / "release" / "sub" / "file.txt").read_text() == "one"


def test_changed_file_in_the_release_is_refused_and_a_lost_one_replaced(tmp_path: Path) -> None:
    file = tmp_path / "release" / "sub" / "file.txt"
    with open_workspace(tmp_path) as workspace:
        workspace.publish("sign", "k1", "release", writer("one"))
        file.write_text("changed by hand")
        with pytest.raises(WorkspaceError, match="has been changed"):
            workspace.publish("sign", "k1", "release", writer("one"))
        file.unlink()
        workspace.publish("sign", "k1", "release", writer("one"))
    assert file.read_text() == "one"


def test_withdrawn_target_is_gone_and_can_come_back(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.publish("unsigned", "k1", "unsigned", writer("one"))
        workspace.withdraw("unsigned", "unsigned")
        workspace.withdraw("unsigned", "unsigned")
        assert not (tmp_path / "unsigned").exists()
        assert not workspace.publish("unsigned", "k1", "unsigned", writer("one")).kept
    assert (tmp_path / "unsigned" / "sub" / "file.txt").read_text() == "one"


def test_links_are_refused(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace, pytest.raises(WorkspaceError, match="link"):
        workspace.stage("erase", "k1", lambda out, scratch: (out / "link").symlink_to("/etc/hostname"))
