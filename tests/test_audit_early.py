"""Stopping when a limit is decided, going on after a kill, and what is known of a detector's mistakes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from painted import SWORD, Painter, line, make_policy, plug_ins, run  # noqa: F401
from PIL import Image

from safeflux import audit_drawing as module
from safeflux.audit_early import Watch
from safeflux.audit_labelled import labelled
from safeflux.audit_lines import measures
from safeflux.audit_store import Drawings, Spent
from safeflux.errors import PlanError, StageError
from safeflux.instruments import Instruments
from safeflux.policy import Choice
from safeflux.report import decide
from safeflux.statistics import upper, wilson
from safeflux.statistics.anytime import needed_anytime, upper_anytime
from safeflux.types import Finding, Prompt, Sample

pytestmark = pytest.mark.usefixtures("plug_ins")
GONE = ("sword", "blade")
RIDDLE = Choice("riddle", {"images": 120})


def test_a_good_model_draws_no_more_than_it_takes() -> None:
    base, erased = Painter(), Painter(gone=GONE)
    found = run(base, erased, make_policy(Choice("none"), RIDDLE, images=120, early=True)).findings
    needed = -(-needed_anytime(0.1) // 16) * 16
    for attack in ("none", "riddle"):
        direct, control = line(found, attack, "detection"), line(found, attack, "detection", "base")
        assert (direct.k, direct.n, direct.planned, direct.status) == (0, needed, 120, "passed")
        assert direct.bound == upper_anytime(0, needed)
        assert control.n == 120
    kept = line(found, "none", "retained")
    assert (kept.n, kept.planned, kept.status) == (needed, 120, "passed")
    assert len(base.drawn) == 4 * 120
    assert len(erased.drawn) == sum(f.n for f in found if f.model == "erased" and f.limit is not None) == 3 * needed + needed + 8


def test_a_null_erasure_fails_as_soon_as_that_is_sure() -> None:
    erased = Painter()
    found = run(Painter(), erased, make_policy(Choice("none"), images=120, early=True)).findings
    assert line(found, "none", "detection").status == "failed"
    assert line(found, "none", "detection").n == 16
    assert line(found, "none", "retained").status == "passed"


def test_an_undecided_limit_takes_all_pictures_and_is_not_passed_by_the_exact_bound() -> None:
    """7 of 120 pass a limit of 10.9% where the number was fixed, and not where one could have stopped at any time."""
    counted = Finding("sword", "none", "detection", "erased", 7, 120, 7 / 120, *wilson(7, 120), "measured")
    control = replace(counted, model="base", k=120, value=1.0)
    assert upper(7, 120) < 0.109 < upper_anytime(7, 120)
    assert decide(counted, control, 0.109, 0.95).status == "passed"
    assert decide(counted, control, 0.109, 0.95, early=True).status == "failed"


def test_a_line_that_was_decided_can_become_undecided_by_what_was_still_drawn() -> None:
    policy = make_policy(Choice("none"), early=True)
    direct = next(m for m in measures(policy, "none") if m.metric == "detection")
    prompt = Prompt("a sword", "sword", ("sword",), "direct")
    red, grey = np.full((2, 2, 3), 200, np.uint8), np.zeros((2, 2, 3), np.uint8)

    class Red:
        name, threshold, digest, labels = "red", 0.5, "", None

        def __call__(self, images: np.ndarray, label: str) -> np.ndarray:
            return images.mean(axis=(1, 2, 3)) > 100

    watch = Watch([direct], [Sample(red, prompt, 0, "none")], lambda m: Instruments(Red(), lambda: None))  # type: ignore[arg-type,return-value]
    assert not watch.enough(prompt)
    assert not watch.enough(replace(prompt, concept=None))
    for seed in range(43):
        assert not watch.enough(prompt)
        watch.see(Sample(grey, prompt, seed, "none"))
    assert watch.enough(prompt)
    watch.see(Sample(red, prompt, 43, "none"))
    assert not watch.enough(prompt)


class Killed(Painter):
    """Is killed when it is to draw for the ``last`` time."""

    last = 5

    def draw(self, prompts, seeds, *, steps, batch=16):  # type: ignore[no-untyped-def]
        self.last -= 1
        if self.last < 0:
            raise KeyboardInterrupt
        return super().draw(prompts, seeds, steps=steps, batch=batch)


@pytest.mark.parametrize("early", [False, True])
def test_a_killed_audit_goes_on_where_it_was(early: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAVED_EVERY", -1.0)
    policy = make_policy(Choice("none"), images=60, early=early)
    whole = run(Painter(), Painter(gone=GONE), policy)
    killed = Killed(gone=GONE)
    with pytest.raises(KeyboardInterrupt):
        run(Painter(), killed, policy, tmp_path)
    assert len(killed.drawn) == (3 * 16 + 4 + 16 if early else 5 * 16)  # the fourth batch has 12 that were no longer needed
    rest, idle = Painter(gone=GONE), Painter()
    again = run(idle, rest, policy, tmp_path)
    assert again.findings == whole.findings
    assert idle.drawn == []
    assert not {*rest.drawn} & {*killed.drawn}
    assert not list(tmp_path.glob("*.part-*"))


def test_parts_are_read_in_order_up_to_the_first_that_is_broken(tmp_path: Path) -> None:
    def sample(n: int) -> Sample:
        return Sample(np.full((2, 2, 3), n, np.uint8), Prompt("a sword", "sword", ("sword",), "direct"), n, "none")

    store = Drawings(tmp_path)
    for n in range(3):
        store.add("k", [sample(n)], Spent(10, 0.5))
    drawn, spent = store.begun("k")
    assert [s.seed for s in drawn] == [0, 1, 2]
    assert spent == Spent(30, 1.5)
    (tmp_path / "drawn-k.part-00001.npz").write_bytes(b"")
    assert [s.seed for s in store.begun("k")[0]] == [0]
    store.put("k", drawn, Spent(40, 2.0))
    assert store.spent("k") == Spent(40, 2.0)
    assert [path.name for path in tmp_path.iterdir()] == ["drawn-k.npz"]
    assert Drawings(None).spent("k") == Spent()


def test_every_attack_says_what_it_took() -> None:
    spent = run(Painter(), Painter(gone=GONE), make_policy(Choice("none"), Choice("broken"))).spent
    assert set(spent) == {(attack, which) for attack in ("none", "broken") for which in ("base", "erased")}
    assert spent["none", "base"].seconds > 0
    assert spent["broken", "erased"] == Spent()


def pictures(folder: Path, colours: list[tuple[int, int, int]]) -> None:
    folder.mkdir(parents=True)
    for i, colour in enumerate(colours):
        Image.new("RGB", (16, 16 + i), tuple(c + 9 for c in colour)).save(folder / f"{i}.png")


def test_rates_are_corrected_for_the_mistakes_on_labelled_pictures(tmp_path: Path) -> None:
    red, grey = (200, 0, 0), (128, 128, 128)
    pictures(tmp_path / "shown", [red] * 19 + [grey])
    pictures(tmp_path / "others", [grey] * 18 + [red] * 2)
    policy = make_policy(Choice("none"), concept=replace(SWORD, labelled=str(tmp_path)))
    found = run(Painter(), Painter(), policy)
    direct, control = line(found.findings, "none", "detection"), line(found.findings, "none", "detection", "base")
    assert direct.k == 60
    assert (direct.corrected, direct.corrected_high) == (1.0, 1.0)
    assert direct.corrected_low is not None
    assert 0.8 < direct.corrected_low < 1
    assert control.corrected is None
    assert found.detectors[0]["labelled"] == [{"concept": "sword", "shown": 20, "found": 19, "others": 20, "false": 2}]
    assert line(found.findings, "none", "retained").corrected is None


def test_labelled_pictures_that_are_not_there_stop_the_audit_before_it_draws(tmp_path: Path) -> None:
    pictures(tmp_path / "shown", [(200, 0, 0)])
    base = Painter()
    with pytest.raises(PlanError, match=r"sword: labelled: there is no folder .*others; wanted: labelled pictures in the folders"):
        run(base, Painter(), make_policy(concept=replace(SWORD, labelled=str(tmp_path))))
    (tmp_path / "others").mkdir()
    with pytest.raises(PlanError, match=r"others holds no pictures; wanted: .* \(\.png, "):
        run(base, Painter(), make_policy(concept=replace(SWORD, labelled=str(tmp_path))))
    (tmp_path / "others" / "a.png").write_bytes(b"no picture")
    with pytest.raises(StageError, match=r"a\.png cannot be read as a picture"):
        run(base, Painter(), make_policy(concept=replace(SWORD, labelled=str(tmp_path))))
    assert base.drawn == []


def test_the_mini_draws_its_own_labelled_pictures() -> None:
    from safeflux.detectors.mini import mini
    from safeflux.policy import Base

    policy = replace(make_policy(), base=Base("builtin:flux-mini"))
    known = labelled(SWORD, mini(), policy)
    assert known is not None
    assert (known.shown, known.others) == (100, 100)
    assert known.sensitivity > 0.9
    assert known.specificity > 0.95
    assert labelled(replace(SWORD, label="a lamp"), mini(), policy) is None
    assert labelled(SWORD, mini(), make_policy()) is None


def test_pictures_that_share_a_prompt_are_counted_by_prompt_too() -> None:
    found = run(Painter(), Painter(), make_policy(Choice("none"), Choice("riddle"))).findings
    shared, direct = line(found, "riddle", "detection"), line(found, "none", "detection")
    assert (shared.n, shared.prompts, shared.prompts_hit) == (60, 1, 1)
    assert (direct.prompts, direct.prompts_hit) == (60, 60)
