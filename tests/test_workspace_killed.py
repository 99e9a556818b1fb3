"""A workspace whose run is killed at any step shows the old or the new or nothing, and the next run ends the same."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

_KILLED = """
import os, pathlib, signal, shutil, sys
from safeflux import workspace as w
root, text, left = pathlib.Path(sys.argv[1]), sys.argv[2], [int(sys.argv[3])]

def deadly(function):
    def wrapped(*args, **options):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **options)
    return wrapped

for name in ("rename", "replace", "mkdir", "unlink"):
    setattr(pathlib.Path, name, deadly(getattr(pathlib.Path, name)))
shutil.rmtree, w.write_atomic = deadly(shutil.rmtree), deadly(w.write_atomic)

def make(out, scratch):
    out.joinpath("a").write_text(text)
    out.joinpath("b").mkdir()
    out.joinpath("b", "c").write_text(text * 2)

with w.open_workspace(root) as space:
    space.stage("erase", text, make)
    space.publish("sign", text, "release", make)
print("whole")
"""


def test_killed_at_any_step_it_is_old_or_new_or_absent_and_the_next_run_ends_the_same(tmp_path: Path) -> None:
    def run(root: Path, text: str, kill: int) -> bool:
        done = subprocess.run([sys.executable, "-c", _KILLED, str(root), text, str(kill)], capture_output=True, text=True, check=False)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode == 0

    def shown(root: Path) -> list[str]:
        return [f.read_text() for f in (root / "release" / "a", root / "release" / "b" / "c") if (root / "release").exists()]

    assert run(tmp_path / "plain", "two", 0)
    expected = {name: json.loads((tmp_path / "plain" / "work" / name / "done.json").read_text()) for name in ("erase", "sign")}
    assert run(tmp_path / "run", "one", 0)
    step, ended = 0, False
    while not ended:
        step += 1
        ended = run(tmp_path / "run", "two", step)
        assert shown(tmp_path / "run") in ([], ["one", "oneone"], ["two", "twotwo"])
        assert run(tmp_path / "run", "two", 0)
        assert shown(tmp_path / "run") == ["two", "twotwo"]
        assert {n: json.loads((tmp_path / "run" / "work" / n / "done.json").read_text()) for n in expected} == expected
        assert sorted(p.name for p in (tmp_path / "run" / "work").iterdir()) == ["erase", "lock", "sign", "workspace.json"]
        assert run(tmp_path / "run", "one", 0)
    assert step > 10  # the sweep met every rename, directory and removal, not just the first few
