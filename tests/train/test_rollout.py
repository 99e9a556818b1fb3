from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from safeflux.models.flux1 import Flux1
from safeflux.models.sites import gated
from safeflux.train.rollout import rollout, shared


def test_rollout_is_the_sampler_and_recomputation_changes_nothing(tiny: Path) -> None:
    """Latents equal ``sample``; gradients with and without step-wise checkpointing agree, and match a finite difference."""
    model = Flux1.load(tiny)
    noise, cond = model.noise([1, 2]), model.encode(["a sword", "a cat"])
    name = "transformer_blocks.0.ff"
    grads = []
    for recompute in (False, True):
        gate = torch.full((model.sites()[name].units,), 0.7, requires_grad=True)
        with gated(model.transformer, model.sites(), {name: gate}):
            latents = rollout(model, noise, cond, steps=3, recompute=recompute)
            assert torch.allclose(latents, model.sample(noise, cond, steps=3), atol=1e-6)
            latents.square().mean().backward()
        assert gate.grad is not None
        grads.append(gate.grad)
    assert torch.allclose(grads[0], grads[1], rtol=1e-4, atol=1e-9)

    direction = torch.randn(len(grads[0]), generator=torch.Generator().manual_seed(0))
    values = []
    for sign in (1, -1):
        with gated(model.transformer, model.sites(), {name: 0.7 + sign * 0.05 * direction}):
            values.append(model.sample(noise, cond, steps=3).square().mean().item())
    slope, wanted = (values[0] - values[1]) / 0.1, float(direction @ grads[0])
    assert abs(slope - wanted) < 0.05 * abs(wanted) + 1e-6


def test_gates_of_its_own_for_each_picture_are_those_gates_for_that_picture(tiny: Path) -> None:
    """One batch under gates [B, units] of every kind of site: latents and gradients are those of each picture alone."""
    model = Flux1.load(tiny)
    noise, cond = model.noise([1, 2]), model.encode(["a sword", "a cat"])
    random = torch.Generator().manual_seed(0)
    gates = {name: torch.rand(2, site.units, generator=random).requires_grad_() for name, site in model.sites().items()}
    with gated(model.transformer, model.sites(), gates):
        both = rollout(model, noise, cond, steps=2, recompute=False)
    (together,) = torch.autograd.grad(both.square().mean((1, 2)).sum(), [gates["transformer_blocks.0.ff"]])
    for row in range(2):
        alone = {name: gate[row].detach().requires_grad_() for name, gate in gates.items()}
        with gated(model.transformer, model.sites(), alone):
            latents = rollout(model, noise[[row]], cond[[row]], steps=2, recompute=True)
            (slope,) = torch.autograd.grad(latents.square().mean(), [alone["transformer_blocks.0.ff"]])
        assert torch.allclose(latents[0], both[row], atol=1e-5)
        assert torch.allclose(slope, together[row], rtol=1e-3, atol=1e-8)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_several_threads_come_to_the_same_gradient_bit_by_bit() -> None:
    """Threads that add up what an index took do so in whichever order they come."""
    random = torch.Generator().manual_seed(0)
    owners = [i % 4 for i in range(30)]
    weights = torch.rand(30, 9000, generator=random) * 10.0 ** torch.randint(-3, 3, (30, 9000), generator=random)

    def gradient() -> torch.Tensor:
        copies = torch.rand(4, 9000, generator=torch.Generator().manual_seed(1)).requires_grad_()
        rows = shared(copies, owners)
        assert torch.equal(rows, copies.detach()[owners])
        (found,) = torch.autograd.grad((rows * weights).sum(), [copies])
        return found

    first = gradient()
    assert torch.allclose(first, torch.stack([weights[i::4].sum(0) for i in range(4)]))
    assert all(torch.equal(first, gradient()) for _ in range(20))
