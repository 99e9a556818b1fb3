from __future__ import annotations

import torch

from safeflux.models.sites import Site
from safeflux.train.gates import Gates

SITES = [Site("a", "neuron", "ff", 4000, "a", "a", "b"), Site("b", "modulation", "norm1", 1000, "b", "b", None)]


def make(initial: float) -> Gates:
    return Gates(SITES, initial=initial, temperature=0.83, device=torch.device("cpu"))


def test_one_draw_is_a_function_of_its_generator() -> None:
    gates = make(0.5)
    first, again, other = (gates.sample(torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not torch.equal(first["a"], other["a"])


def test_gates_reach_both_ends_and_expected_open_is_their_frequency() -> None:
    """Louizos et al.: P(gate > 0) = sigmoid(logit - temperature * log(-low / high)), checked against draws."""
    for initial in (-2.0, 0.0, 1.5):
        gates = make(initial)
        drawn = torch.cat(list(gates.sample(torch.Generator().manual_seed(0)).values()))
        assert drawn.min() >= 0
        assert drawn.max() <= 1
        open_share = (drawn > 0).float().mean()
        assert abs(open_share - gates.expected_open()) < 4 * (0.25 / 5000) ** 0.5
    assert (torch.cat(list(make(0.0).sample(torch.Generator().manual_seed(0)).values())) == 0).any()


def test_hard_gates_are_the_signs_of_the_logits() -> None:
    gates = make(1.0)
    with torch.no_grad():
        gates.logits["a"][:10] = -0.1
    assert (~gates.keep()["a"]).nonzero().flatten().tolist() == list(range(10))
    assert gates.keep()["b"].all()


def test_gradient_reaches_gates_that_are_not_clamped() -> None:
    gates = make(0.0)
    drawn = gates.sample(torch.Generator().manual_seed(0))["a"]
    drawn.sum().backward()
    grad = gates.logits["a"].grad
    assert grad is not None
    inside = (drawn > 0) & (drawn < 1)
    assert (grad[inside] > 0).all()
    assert (grad[~inside] == 0).all()
