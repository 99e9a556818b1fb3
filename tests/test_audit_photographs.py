"""Photographs in an audit: whose they are, what is said of them, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from painted import COLOURS, Means, Painter, line, make_policy, plug_ins, run  # noqa: F401
from PIL import Image

from safeflux.audit_photographs import DRAWN, photographed, photographs
from safeflux.errors import PlanError, StageError
from safeflux.files import source_digest
from safeflux.mini import embedder
from safeflux.plan import make_plan
from safeflux.policy import Base, Choice, Policy, read_policy

pytestmark = pytest.mark.usefixtures("plug_ins")
METRIC = "erase-eval-distance"


def beside(folder: Path) -> Policy:
    policy = make_policy(Choice("none"))
    return replace(policy, audit=replace(policy.audit, photographs=str(folder)))


def shot(folder: Path, n: int = 8) -> Path:
    """Photographs of trees and houses, each of another size and paler than any painter's."""
    folder.mkdir(exist_ok=True)
    for i in range(n):
        colour = np.array(COLOURS["tree" if i % 2 else "house"]) // 2 + 60 + i % 8
        Image.new("RGB", (16, 16 + i), tuple(int(c) for c in colour)).save(folder / f"{i:04}.png")
    return folder


def test_the_term_is_in_the_report_with_what_it_was_measured_beside(tmp_path: Path) -> None:
    policy = beside(shot(tmp_path / "photographs", 40))
    same = line(run(Painter(), Painter(), policy).findings, "none", METRIC)
    assert (same.status, same.value, same.n, same.limit) == ("measured", 1.0, 60, None)
    digest = source_digest(*sorted((tmp_path / "photographs").iterdir()))
    assert same.reason == f"beside 40 of 40 photographs (sha256 {digest})"
    lost = line(run(Painter(), Painter(gone=("tree", "house")), policy).findings, "none", METRIC)
    assert 0 < lost.value < 0.9
    found = line(run(Painter(gone=("tree", "house")), Painter(), policy).findings, "none", METRIC)
    assert found.value == 1.0, "nearer than the base model's is no better"


def test_without_photographs_there_is_no_such_line() -> None:
    assert not photographed(make_policy())
    assert METRIC not in {f.metric for f in run(Painter(), Painter(), make_policy(Choice("none"))).findings}


def test_of_many_photographs_a_thousand_are_taken_from_all_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safeflux.policy.attached.MOST", 4)
    found = photographs(beside(shot(tmp_path, 10)), Means)  # type: ignore[arg-type]
    assert found is not None
    assert found.told.startswith("beside 4 of 10 photographs")
    every = [Means().images(np.asarray(Image.open(tmp_path / f"{i:04}.png"))[None]) for i in (0, 2, 5, 7)]
    np.testing.assert_array_equal(found.embedded(), np.concatenate(every))


def test_a_folder_that_does_not_do_stops_the_audit_before_it_draws(tmp_path: Path) -> None:
    base = Painter()
    with pytest.raises(PlanError, match=r"audit\.photographs: there is no folder .*nowhere; wanted: at least 3 photographs"):
        run(base, Painter(), beside(tmp_path / "nowhere"))
    with pytest.raises(PlanError, match=r"few holds 2 pictures; wanted: at least 3 photographs of what must stay \(\.png, "):
        run(base, Painter(), beside(shot(tmp_path / "few", 2)))
    (shot(tmp_path / "broken") / "0003.png").write_bytes(b"no picture")
    with pytest.raises(StageError, match=r"0003\.png cannot be read as a picture"):
        run(base, Painter(), beside(tmp_path / "broken"))
    assert base.drawn == []


def test_a_photograph_that_breaks_off_leaves_one_line_unchecked(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(shot(tmp_path) / "0003.png")
    whole = (tmp_path / "0003.png").read_bytes()
    (tmp_path / "0003.png").write_bytes(whole[: len(whole) // 2])
    findings = run(Painter(), Painter(), beside(tmp_path)).findings
    broken = line(findings, "none", METRIC)
    assert broken.status == "unchecked"
    assert "0003.png cannot be read as a picture" in broken.reason
    assert line(findings, "none", "feature-distance").status == "measured"


def test_the_drawn_world_stands_for_photographs_of_the_mini() -> None:
    policy = replace(make_policy(), base=Base("builtin:flux-mini"), retain=("tree", "a thing it has not", "house"))
    found = photographs(policy, embedder.load)
    assert found is not None
    vectors = found.embedded()
    assert len(vectors) == 2 * DRAWN
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert "drawn world" in found.told
    assert not photographed(replace(policy, retain=("a thing it has not",)))


TEXT = """safeflux: 1
name: demo
version: "1"
base: {model: builtin:flux-mini}
concepts:
  - {name: sword, category: object, labelled: ./labelled}
method: mask
limits: {detection: 0.1, attack_success: 0.3, retained: 0.9}
audit: {photographs: ./photographs}
"""


def test_a_policy_names_the_folder_from_where_it_lies(tmp_path: Path) -> None:
    assert read_policy(TEXT.encode(), tmp_path / "policy.yaml").audit.photographs == str(tmp_path / "photographs")
    assert read_policy(TEXT.replace("audit: {photographs: ./photographs}", "").encode(), None).audit.photographs is None


def test_the_plan_already_tells_of_pictures_that_are_not_there_and_where_the_policy_names_them(tmp_path: Path) -> None:
    policy = read_policy(TEXT.encode(), tmp_path / "policy.yaml")
    with pytest.raises(PlanError, match=r"policy\.yaml:6:3: concepts: sword: labelled: there is no folder .*labelled/shown; wanted: "):
        make_plan(policy)
    for kind in ("shown", "others"):
        (tmp_path / "labelled" / kind).mkdir(parents=True)
    with pytest.raises(PlanError, match=r"labelled/shown holds no pictures; wanted: labelled pictures in the folders shown/ and others/"):
        make_plan(policy)
    for kind in ("shown", "others"):
        shot(tmp_path / "labelled" / kind)
    with pytest.raises(PlanError, match=r"policy\.yaml:9:22: audit\.photographs: there is no folder .*photographs; wanted: at least 3"):
        make_plan(policy)
    shot(tmp_path / "photographs")
    assert make_plan(policy).policy.audit.photographs == str(tmp_path / "photographs")
