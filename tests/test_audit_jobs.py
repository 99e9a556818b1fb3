"""Attacks side by side find what they find one after the other, and no process is left behind, however an audit ends."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from jobs_example import PLUG_INS, Painting
from painted import Means, make_policy

from safeflux import registry
from safeflux.audit import Audited, audit
from safeflux.audit_drawing import Subject
from safeflux.audit_jobs import Given
from safeflux.errors import StageError
from safeflux.plan import make_plan
from safeflux.policy import Choice, Policy, load_policy
from safeflux.stages import Run, Source, audit_task
from safeflux.types import AuditTask, Progress

GONE = ("sword", "blade")


@pytest.fixture(autouse=True)
def plug_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, table in PLUG_INS.items():
        monkeypatch.setitem(registry.BUILT_IN, kind, registry.BUILT_IN[kind] | table)  # type: ignore[arg-type, index]
    registry._table.cache_clear()


def run(policy: Policy, place: Path, *, jobs: int, progress: Progress | None = None) -> Audited:
    place.mkdir(exist_ok=True)
    task = AuditTask(policy.concepts, policy.retain, seed=3, steps=4, batch=16, progress=progress)
    models = (Subject(Painting((), place / "base"), "base"), Subject(Painting(GONE, place / "erased"), "erased"))
    return audit(*models, policy, task, store=place / "drawings", jobs=jobs, embedder=Means)


def processes(place: Path, which: str) -> set[int]:
    """Those that loaded the model."""
    return {int(line) for line in (place / which).read_text().split()}


def test_side_by_side_they_find_what_they_find_one_after_the_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And stop as early. One breaks, in its own process, and says so here."""
    policy = make_policy(Choice("none"), Choice("paraphrase", {"typos": 0.0}), Choice("broken"), Choice("ladder"), early=True)
    said: list[tuple[str, int, int]] = []
    with caplog.at_level(logging.INFO, "safeflux"):
        both = run(policy, tmp_path / "two", jobs=2, progress=lambda *step: said.append(step))
    assert any("broken" in r.getMessage() and "out of riddles" in r.getMessage() for r in caplog.records if r.levelno == logging.ERROR)
    assert any(r.getMessage().startswith("ladder on the erased model: ") for r in caplog.records)
    alone = run(policy, tmp_path / "one", jobs=1)
    assert both.findings == alone.findings
    assert {key: spent.evaluations for key, spent in both.spent.items()} == {key: spent.evaluations for key, spent in alone.spent.items()}
    assert {f.attack for f in both.findings if "out of riddles" in f.reason} == {"broken"}
    for which in ("base", "erased"):
        assert processes(tmp_path / "one", which) == {os.getpid()}
        assert len(processes(tmp_path / "two", which) - {os.getpid()}) == len(processes(tmp_path / "two", which)) in (1, 2)
    assert any(what.startswith("erased model, ") and done == total for what, done, total in said)
    assert multiprocessing.active_children() == []


def test_all_that_a_release_gives_an_attack_can_be_given_to_another_process(tiny: Path, tmp_path: Path) -> None:
    policy = load_policy(Path(__file__).parent.parent / "policies" / "demo.yaml")
    made = Run(policy, make_plan(policy), tmp_path, lambda *_: None)
    task = replace(audit_task(made, tmp_path), progress=None)
    given = Given("base", Source(tiny, "float32"), policy, task, tmp_path, {("base", "none"): "a"})
    assert pickle.loads(pickle.dumps(given)) == given
    assert pickle.loads(pickle.dumps(given.load))().directory == tiny


def test_where_a_process_dies_what_the_others_drew_is_kept(tmp_path: Path) -> None:
    when = tmp_path / "now"
    policy = make_policy(Choice("none"), Choice("deadly", {"when": str(when)}))
    when.touch()
    with pytest.raises(StageError, match=r"a process that attacked the base model died.*each of 2 held the model"):
        run(policy, tmp_path / "two", jobs=2)
    assert multiprocessing.active_children() == []
    when.unlink()
    found = run(policy, tmp_path / "two", jobs=1)
    assert {f.status for f in found.findings if f.model == "erased"} == {"passed", "measured"}


def test_interrupted_it_leaves_no_process_behind(tmp_path: Path) -> None:
    policy = make_policy(Choice("riddle"), Choice("deadly", {"wait": 60.0}))

    def interrupt(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(policy, tmp_path / "two", jobs=2, progress=interrupt)
    assert time.monotonic() - start < 60
    assert multiprocessing.active_children() == []


def test_killed_it_leaves_no_process_behind(tmp_path: Path) -> None:
    """Not even one that is in the middle of an attack: it would go on writing where the next audit works."""
    script = tmp_path / "killed.py"
    script.write_text(
        f"import sys\nsys.path[:0] = {sys.path!r}\n"
        "from pathlib import Path\nimport jobs_example\nfrom painted import make_policy\nfrom safeflux.policy import Choice\n"
        "from test_audit_jobs import run\n"
        'if __name__ == "__main__":\n'
        "    jobs_example.plug_in()\n"
        '    slow = [Choice("deadly", {"wait": 60.0}), Choice("none")]\n'
        f"    run(make_policy(*slow), Path({str(tmp_path / 'two')!r}), jobs=2)\n"
    )
    with subprocess.Popen([sys.executable, str(script)]) as parent:
        log = tmp_path / "two" / "base"
        _until(lambda: log.is_file() and len(log.read_text().split()) == 2)
        children = processes(tmp_path / "two", "base")
        assert all(_alive(child) for child in children)
        parent.send_signal(signal.SIGKILL)
    _until(lambda: not any(_alive(child) for child in children))


def _until(true: object, seconds: float = 120.0) -> None:
    assert callable(true)
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def _alive(process: int) -> bool:
    """Whether it runs: not gone, and not merely waiting for somebody to ask how it ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
