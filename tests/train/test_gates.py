from __future__ import annotations

import itertools

import torch

from safeflux.models.sites import Site
from safeflux.train.gates import Gates

SITES = [Site("a", "neuron", "ff", 4000, "a", "a", "b"), Site("b", "modulation", "norm1", 1000, "b", "b", None)]


def make(initial: float) -> Gates:
    return Gates(SITES, initial=initial, device=torch.device("cpu"))


def draw(gates: Gates, seed: int) -> torch.Tensor:
    return gates.sample(torch.Generator().manual_seed(seed))


def test_one_draw_is_a_function_of_its_generator() -> None:
    gates = make(0.5)
    assert torch.equal(draw(gates, 1), draw(gates, 1))
    assert not torch.equal(draw(gates, 1), draw(gates, 2))


def test_gates_reach_both_ends_and_expected_closed_is_their_frequency() -> None:
    """Louizos et al.: P(gate > 0) = sigmoid(logit - temperature * log(-low / high)), checked against draws, warm and cooling."""
    for initial, progress in itertools.product((-2.0, 0.0, 1.5), (0.0, 0.5)):
        gates = make(initial)
        gates.anneal(progress)
        drawn = draw(gates, 0)
        assert drawn.min() >= 0
        assert drawn.max() <= 1
        assert abs((drawn == 0).float().mean() - gates.expected_closed()) < 4 * (0.25 / 5000) ** 0.5
    assert (draw(make(0.0), 0) == 0).any()


def test_in_the_end_a_sample_is_nearer_to_the_hard_gate() -> None:
    gates = make(0.0)
    for values in (gates.logits.data, gates.mean):
        values.copy_(torch.randn(5000, generator=torch.Generator().manual_seed(3)) * 3)
    apart = []
    for progress in (0.0, 1.0):
        gates.anneal(progress)
        apart.append(float((draw(gates, 0).detach() - gates.hard()).abs().mean()))
    assert apart[1] < 0.6 * apart[0]


def test_no_gate_goes_so_far_that_it_cannot_come_back() -> None:
    """Driven either way for ever, every gate still hears of the loss when the noise is at its least: a fiftieth of the most, or more."""
    slopes = []
    for end in (0.0, -1e3, 1e3):
        gates = make(0.0)
        with torch.no_grad():
            gates.logits.fill_(end)
        gates.settle(1)
        gates.anneal(1.0)
        draw(gates, 0).sum().backward()
        assert gates.logits.grad is not None
        slopes.append(gates.logits.grad.median())
    assert min(slopes[1:]) > 0.02 * slopes[0]


def test_hard_gates_are_the_signs_of_the_logits_and_cut_up_by_site() -> None:
    gates = make(1.0)
    gates.begin((torch.arange(len(gates)) >= 3990) & (torch.arange(len(gates)) < 4010), -0.1)
    keep = {name: gate.bool() for name, gate in gates.by_site(gates.hard()).items()}
    assert (~keep["a"]).nonzero().flatten().tolist() == list(range(3990, 4000))
    assert (~keep["b"]).nonzero().flatten().tolist() == list(range(10))
    assert torch.equal(gates.closing({name: ~kept for name, kept in keep.items()}), ~gates.hard().bool())
    assert torch.equal(gates.closing({"b": ~keep["b"]}).nonzero().flatten(), torch.arange(4000, 4010))


def test_the_mask_is_that_of_the_running_mean_of_the_logits() -> None:
    """What a few updates do it does not follow; what many do, it does. A gate that flickers is as it is most of the time."""
    gates = make(2.5)
    for update in range(60):
        with torch.no_grad():
            gates.logits[:10] = -1.0
            gates.logits[10:20] = -1.0 if update % 5 == 4 else 2.0
        gates.settle(update + 1)
        assert update > 3 or gates.hard().all()
    assert (gates.hard() == 0).nonzero().flatten().tolist() == list(range(10))


def test_the_longer_the_training_the_longer_the_mean() -> None:
    """Turned round at once, gates are followed after ten updates of a short training, but not of a long one."""
    for before, followed in ((20, True), (200, False)):
        gates = make(2.5)
        for update in range(before + 10):
            with torch.no_grad():
                gates.logits.fill_(2.5 if update < before else -1.0)
            gates.settle(update + 1)
        assert bool((gates.hard() == 0).all()) is followed


def test_a_gate_that_is_shut_stays_shut() -> None:
    gates = make(2.5)
    gates.shut[7] = True
    assert draw(gates, 0)[7] == 0
    assert gates.hard()[7] == 0
    assert draw(gates, 0).requires_grad


def test_gradient_reaches_all_gates_but_those_that_are_shut() -> None:
    """Clamped ones, too: they have the slope of the sigmoid."""
    gates = make(0.0)
    gates.shut[3] = True
    drawn = draw(gates, 0)
    drawn.sum().backward()
    grad = gates.logits.grad
    assert grad is not None
    assert ((drawn == 0) | (drawn == 1)).float().mean() > 0.2
    assert (grad[torch.arange(len(gates)) != 3] > 0).all()
    assert grad[3] == 0
    assert grad.max() <= 0.25 / 0.83 + 1e-6
