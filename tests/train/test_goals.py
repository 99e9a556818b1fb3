from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from training import Script, small_task
from trials import HUNT, Trial

from safeflux.models.flux1 import Flux1
from safeflux.train import goals as module
from safeflux.train.adversary import Adversary
from safeflux.train.constraints import CLOSED, Constraints
from safeflux.train.gates import Gates
from safeflux.train.goals import Goals
from safeflux.train.held_out import GENERAL, attacked, beside, near
from safeflux.train.mining import Mining
from safeflux.train.state import State
from safeflux.types import Prompt


@pytest.fixture(scope="module")
def model(tiny: Path) -> Flux1:
    return Flux1.load(tiny)


def test_goals_leave_room_for_the_confidence_the_audit_demands(model: Flux1) -> None:
    """Limits of 0.2, 0.4 under attack, and 0.8."""
    goals = Goals(model, small_task(model), model.sites(), budget=0.05, batch=8, hunt=HUNT)
    constraints = goals.controller(None).constraints
    assert constraints["sword"].limit == pytest.approx(0.04)
    assert constraints[GENERAL].limit == pytest.approx(0.95)
    assert constraints[attacked("neon")].limit == pytest.approx(0.24)
    assert constraints[CLOSED].limit == 0.05
    assert (constraints[GENERAL].start, constraints[near("sword")].start) == (pytest.approx(3.2), pytest.approx(4.8))
    assert goals.controller(7.5).weights[GENERAL] == pytest.approx(3.0)


def test_one_of_many_concepts_weighs_as_much_beside_what_must_stay_as_one_of_few(model: Flux1) -> None:
    """The loss is the mean over concepts, so the weight that each has in it is divided by their number."""
    task = small_task(model)
    one = replace(task, concepts=task.concepts[:1], pairs={"sword": task.pairs["sword"]})
    two, alone = (Goals(model, some, model.sites(), budget=0.05, batch=8, hunt=HUNT).controller(None) for some in (task, one))
    for name in ("sword", attacked("sword")):
        assert two.weights[name] / 2 == pytest.approx(alone.weights[name])
        assert two.constraints[name].most / 2 == pytest.approx(alone.constraints[name].most)
    assert two.weights[GENERAL] == alone.weights[GENERAL]


@pytest.mark.parametrize(("concepts", "each"), [(1, 10 / 3), (2, 10 / 3), (3, 10 / 3), (5, 10 / 3), (6, 20 / 3), (10, 10)])
def test_attacks_on_one_of_many_may_come_to_weigh_more(model: Flux1, concepts: int, each: float) -> None:
    """In the mean over concepts, twice as much where there are six, three times with ten; at first no more."""
    task = small_task(model)
    many = Constraints(replace(task, concepts=tuple(replace(task.concepts[0], name=str(i)) for i in range(concepts))), budget=0.05)
    for one in many.against_attacks():
        assert one.most / concepts == pytest.approx(each)
        assert one.start / concepts == pytest.approx(4 / 3)


def test_without_neighbours_all_that_must_stay_is_the_rest(model: Flux1) -> None:
    task = small_task(model)
    alone = replace(
        task,
        concepts=task.concepts[1:],
        retain=task.retain[1:],
        held_retain=tuple(p for p in task.held_retain if not p.is_near(task.concepts[0])),
    )
    controller = Goals(model, alone, model.sites(), budget=0.05, batch=8).controller(7.5)
    assert controller.weights[GENERAL] == 7.5


@pytest.fixture
def trial(model: Flux1, monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.setattr(module, "LOOK", 2)
    monkeypatch.setattr(module, "KEPT", 2)
    monkeypatch.setattr(module, "SURE", 3)
    return Trial(model, budget=1e-4)


def test_a_mask_that_keeps_every_limit_gives_way_only_to_a_smaller_one_that_does(trial: Trial) -> None:
    for _ in range(2):
        trial.look(20)
    assert trial.state.held
    assert not trial.state.met
    assert trial.look(30) == 20
    assert trial.look(10) == 10
    trial.seen = True
    assert trial.look(5) == 10
    trial.seen = False
    assert (trial.look(5), trial.look(5)) == (10, 5)  # two good looks in a row, and then for sure
    schema = json.loads((files("safeflux") / "schemas" / "erasure_report.schema.json").read_text())
    assert set(trial.state.journal[-1]) == set(schema["$defs"]["look"]["properties"])


def test_one_picture_of_a_line_of_neighbours_may_be_lost_where_all_that_must_stay_keeps_the_limit_together(model: Flux1) -> None:
    """Two lines of 64: the limit of 0.95 in each of them allows three of its pictures to be lost, that of both together six."""
    goals = Goals(model, small_task(model), model.sites(), budget=0.05, batch=64)
    constraints = goals.controller(None)
    for near_lost, lost, broken in ((3, 3, set()), (4, 2, set()), (4, 3, {near("sword")}), (5, 1, {near("sword")}), (0, 4, {GENERAL})):
        sure = {"sword": 0.0, "neon": 0.0, near("sword"): 1 - near_lost / 64, GENERAL: 1 - lost / 64}
        assert set(constraints.broken(goals._judged(sure))) == broken, (near_lost, lost)


def test_of_neighbours_that_the_base_model_draws_by_a_hair_more_may_be_lost(model: Flux1) -> None:
    """Of 64 crosses it draws 58: beyond what the limit allows, one may be lost as of any line, and three for the other six."""
    task = small_task(model, shows=Script(model))
    goals = Goals(model, task, model.sites(), budget=0.05, batch=64)
    goals.sure.lines = [line.without(range(6)) if line.name == near("sword") else line for line in goals.sure.lines]
    assert [(len(line.prompts), line.others) for line in goals.sure.lines if line.keep] == [(58, 6), (128, 0)]
    constraints = goals.controller(None)
    for near_lost, broken in ((4, set()), (6, set()), (7, {near("sword")})):  # the limit of 0.95 itself allows two
        sure = {"sword": 0.0, "neon": 0.0, near("sword"): 1 - near_lost / 58, GENERAL: 1.0}
        assert set(constraints.broken(goals._judged(sure))) == broken, near_lost


def test_once_kept_only_the_price_of_closing_falls(trial: Trial) -> None:
    for _ in range(3):
        trial.look(20)
    before = dict(trial.state.controller.weights)
    trial.look(0)
    after = trial.state.controller.weights
    assert {name for name in after if after[name] < before[name]} == {CLOSED}
    assert after["sword"] == before["sword"]


def test_a_concept_that_is_gone_weighs_less_only_where_its_neighbours_are_lost(trial: Trial) -> None:
    trial.look(20)
    weights = trial.state.controller.weights
    assert (weights["sword"], weights["neon"]) == (1.0, 1.0)
    trial.lost = True
    trial.look(20)
    weights = trial.state.controller.weights
    assert weights["sword"] < weights["neon"] == 1.0
    assert weights[near("sword")] > weights[GENERAL]


@pytest.mark.parametrize("broken", ["seen", "lost"])
def test_closing_grows_dearer_once_the_limits_are_kept_for_sure(trial: Trial, broken: str) -> None:
    def price(*, bad: bool) -> float:
        setattr(trial, broken, bad)
        trial.look(20)
        return trial.state.controller.weights[CLOSED]

    least = trial.goals.controller(None).constraints[CLOSED].least
    assert [price(bad=True), price(bad=False), price(bad=False)] == [least] * 3
    assert trial.state.held
    dear = price(bad=False)
    assert dear > least
    assert least <= price(bad=True) < dear


def test_one_picture_of_all_that_were_looked_at_holds_nothing_up(model: Flux1, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the dear look that says: one hit in any number of lines is let through to it, two are not."""
    monkeypatch.setattr(module, "LOOK", 2)
    monkeypatch.setattr(module, "KEPT", 2)
    monkeypatch.setattr(module, "SURE", 3)
    goals = Goals(model, small_task(model, shows=Script(model, lambda p: p.concept is None)), model.sites(), budget=0.05, batch=8)
    measured = {line.name: float(line.keep) for line in goals.often.lines}
    limits = goals.controller(None)
    for hits, seen in enumerate([{}, {"sword": 0.5}, {"sword": 0.5, "neon": 0.5}]):
        rates = measured | seen
        assert goals._hits(rates, limits.broken(rates)) == hits


@pytest.mark.parametrize(
    ("concepts", "clearly", "hits", "good"),
    [
        (3, [], 1, True), (3, [], 2, False), (3, [near("1")], 0, False),
        (4, [near("1")], 2, True), (4, [], 3, False), (4, [near("1"), near("2")], 0, False),
        (10, [near("1"), near("2")], 3, True), (10, [], 4, False), (10, [near("1"), near("2"), near("3")], 0, False),
        (10, [GENERAL], 0, False), (10, ["1"], 2, False), (10, [beside("1")], 2, False),
    ],
)  # fmt: skip
def test_of_the_lines_of_many_concepts_a_few_may_be_missed_by_chance(
    model: Flux1, concepts: int, clearly: list[str], hits: int, good: bool
) -> None:
    """Lines of neighbours; never what must stay as a whole, nor a concept that is seen more often than by chance."""
    one = small_task(model, shows=Script(model, lambda p: p.concept is None))
    many = [replace(one.concepts[0], name=str(at)) for at in range(concepts)]
    goals = Goals(model, one, model.sites(), budget=0.05, batch=8)
    goals._concepts = [concept.name for concept in many]
    goals._hits = lambda _measured, _broken: hits  # type: ignore[method-assign]
    assert goals._good({}, {}, clearly) == good


def test_until_every_limit_is_kept_the_mask_nearest_to_it_is_best_by_the_dearest_look(trial: Trial) -> None:
    """The dear look sees what the other does not: here how many crosses are lost."""
    kept = {line.name: float(line.keep) for line in trial.goals.sure.lines}
    rates = {20: kept | {"sword": 0.2, near("sword"): 0.5}, 30: kept | {near("sword"): 0.5}, 40: kept | {near("sword"): 0.0}}
    closed = 0

    def look(n: int) -> int:
        nonlocal closed
        closed = n
        trial.goals.sure.measure = lambda _gates: rates[closed]  # type: ignore[method-assign]
        return trial.look(n)

    assert look(20) == 20  # the first good look; the dear one comes after two
    assert look(30) == 30
    assert look(40) == 30
    assert look(20) == 30
    assert not trial.state.held


def test_it_is_enough_within_the_budget_or_after_long_without_a_smaller_mask(trial: Trial, model: Flux1) -> None:
    for _ in range(2):
        trial.look(20)
    for _ in range(4):
        trial.look(20)
        assert not trial.state.met
    trial.look(20)
    assert trial.state.met
    roomy = Trial(model, budget=0.9)
    roomy.look(20)
    assert not roomy.state.met
    roomy.look(20)
    assert roomy.state.met


def test_beside_other_things_a_concept_is_held_to_the_limit_of_attacks(model: Flux1, monkeypatch: pytest.MonkeyPatch) -> None:
    """Swords are seen in every picture that shows something else too, and never alone: their one weight rises by that."""
    monkeypatch.setattr(module, "LOOK", 2)
    monkeypatch.setattr(module, "KEPT", 2)
    task = small_task(model, shows=Script(model, lambda prompt: bool(prompt.rest) or prompt.concept is None))
    two = Prompt("held out sword and a cat", "sword", ("sword",), "direct", "a cat")
    task = replace(
        task, held_out=task.held_out | {"sword": (*task.held_out["sword"], two)}, cond=task.cond | {two.text: model.encode([two.text])}
    )
    goals = Goals(model, task, model.sites(), budget=0.05, batch=8)
    controller = goals.controller(None)
    assert controller.constraints[beside("sword")].limit == pytest.approx(0.24)
    assert beside("neon") not in controller.constraints
    gates = Gates(model.sites().values(), device=model.device)
    gates.begin(torch.ones(len(gates), dtype=torch.bool), 2.5)
    tool = torch.optim.SGD([gates.logits], lr=1.0)
    state = State(gates, tool, controller, Mining(len(task.retain)), Adversary(0.0, model, task, model.sites()), gates.hard())
    gates.begin(torch.arange(len(gates)) < 20, -1.0)
    goals.look(state, {}, 0)
    assert state.journal[0]["rates"]["sword"] == 0
    assert state.journal[0]["rates"][beside("sword")] == 1
    assert controller.weights["sword"] > controller.weights["neon"] == 1.0
    assert beside("sword") not in state.journal[0]["weights"]
    assert state.calm == 0
