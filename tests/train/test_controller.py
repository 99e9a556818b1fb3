"""The controller on problems whose answer is known."""

from __future__ import annotations

import math

import pytest

from safeflux.train.controller import Constraint, Controller


def solve(controller: Controller, *, a: float, steps: int = 400) -> float:
    """min x^2 + w_near (x - a)^2 + w_small x^2, with x solved exactly for each weight: how near to ``a``, how small."""
    x = 0.0
    for _ in range(steps):
        near, small = controller.weights["near"], controller.weights["small"]
        x = near * a / (1 + near + small)
        controller.update({"near": (x - a) ** 2, "small": x**2})
    return x


def near(limit: float) -> Constraint:
    return Constraint("near", limit, scale=0.5, relax=1.0)


def test_a_constraint_that_can_be_met_is_met_and_no_more_than_that() -> None:
    """(x - 3)^2 <= 1 and x^2 <= 9: the smallest such x is 2."""
    controller = Controller([near(1.0), Constraint("small", 9.0, scale=1.0, relax=1.0)], gain=0.1)
    x = solve(controller, a=3.0)
    assert x == pytest.approx(2.0, abs=0.05)
    assert controller.broken({"near": (x - 3) ** 2 - 0.2, "small": x**2}) == {}


def test_what_cannot_be_met_is_said() -> None:
    """(x - 3)^2 <= 1 needs x >= 2, x^2 <= 1 needs x <= 1."""
    controller = Controller([near(1.0), Constraint("small", 1.0, scale=1.0)], gain=0.1)
    x = solve(controller, a=3.0)
    unmet = controller.unmet({"near": (x - 3) ** 2, "small": x**2})
    assert {one.constraint.name for one in unmet} == {"near", "small"}
    assert "near: wanted at most 1, reached" in str(unmet[0])


def test_a_floor_is_the_mirror_of_a_ceiling() -> None:
    ceiling, floor = Constraint("loss", 0.1), Constraint("kept", 0.9, floor=True)
    controller = Controller([ceiling, floor])
    controller.update({"loss": 0.25, "kept": 0.75})
    assert controller.weights["loss"] == pytest.approx(controller.weights["kept"])
    assert controller.weights["loss"] > 1
    controller.update({"loss": 0.0, "kept": 1.0})
    assert controller.broken({"loss": 0.1, "kept": 0.9}) == {}
    assert str(controller.unmet({"kept": 0.5})[0]) == "kept: wanted at least 0.9, reached 0.5"


def test_room_counts_by_all_the_room_there_is() -> None:
    """A weight falls as fast under a limit of 2% as under one of 50%, and not at all on the limit."""
    limits = [Constraint("strict", 0.02), Constraint("loose", 0.5), Constraint("floor", 0.98, floor=True)]
    best, edge = {"strict": 0.0, "loose": 0.0, "floor": 1.0}, {"strict": 0.02, "loose": 0.5, "floor": 0.98}
    controller = Controller(limits)
    controller.update(edge)
    assert set(controller.weights.values()) == {1.0}
    controller.update(best)
    assert len({round(weight, 9) for weight in controller.weights.values()}) == 1
    assert controller.weights["strict"] < 1


def test_weights_stay_within_bounds_and_fixed_ones_where_they_are() -> None:
    controller = Controller([Constraint("a", 0.0), Constraint("b", 0.0, start=2.0)], fixed=("b",))
    for _ in range(100):
        controller.update({"a": 1.0, "b": 1.0})
    assert controller.weights["a"] == 30.0
    assert controller.weights["b"] == 2.0


def test_an_urge_lasts_as_long_as_the_violation() -> None:
    limits = [Constraint("a", 0.1, scale=0.1, relax=0.0)]
    slow, swift = Controller(limits, gain=0.1), Controller(limits, gain=0.1, swift=1.0)
    for _ in range(3):
        slow.update({"a": 0.9})
        swift.update({"a": 0.9})
    assert swift.weights["a"] == pytest.approx(math.e * slow.weights["a"])
    swift.update({"a": 0.15})
    slow.update({"a": 0.15})
    assert swift.weights["a"] == pytest.approx(math.exp(0.5) * slow.weights["a"])
    swift.update({"a": 0.0})
    assert swift.weights["a"] == pytest.approx(slow.weights["a"])


def test_an_urge_keeps_a_late_answer_from_piling_weight_up() -> None:
    """A rate that answers only once its loss has been pushed on for long: with an urge, far less weight is left when it has."""

    def weight_left(**settings: float) -> float:
        controller, pushed = Controller([Constraint("a", 0.1, relax=0.0)], **settings), 0.0
        while pushed < 60:
            pushed += controller.weights["a"]
            controller.update({"a": 1.0 if pushed < 60 else 0.0})
        return controller.weights["a"]

    assert weight_left(gain=0.2, swift=1.0) < 0.6 * weight_left(gain=0.5)


def test_a_restored_controller_goes_on_as_it_would_have() -> None:
    whole, first, second = (Controller([Constraint("a", 0.1), Constraint("b", 0.5, floor=True)], swift=1.0) for _ in range(3))
    values = [{"a": 0.3, "b": 0.4}, {"a": 0.05, "b": 0.6}, {"a": 0.2, "b": 0.45}]
    for value in values:
        whole.update(value)
    first.update(values[0])
    second.restore(first.state())
    for value in values[1:]:
        second.update(value)
    assert second.weights == whole.weights
