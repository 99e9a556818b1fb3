"""Balls around embeddings: theorems about projecting, stepping and starting, for samples of very different size."""

from __future__ import annotations

import pytest
import torch

from safeflux.train.ball import lengths, moved, project, random_start, step_towards
from safeflux.types import TextCond

RADIUS = 0.3
SIZES = torch.tensor([1e-3, 1.0, 40.0, 0.0])  # the last sample's embeddings are zero: there is nowhere to go


def random(seed: int, *, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> TextCond:
    """Four samples: sequences [4, 5, 8], pooled vectors [4, 6]."""
    drawn = torch.Generator().manual_seed(seed)
    sequence, pooled = torch.randn(4, 5, 8, generator=drawn), torch.randn(4, 6, generator=drawn)
    return TextCond((scale * SIZES[:, None, None] * sequence).to(dtype), (scale * SIZES[:, None] * pooled).to(dtype))


AROUND = random(0)


def same(a: TextCond, b: TextCond) -> bool:
    return torch.equal(a.sequence, b.sequence) and torch.equal(a.pooled, b.pooled)


def near(a: TextCond, b: TextCond, rtol: float = 1e-5) -> bool:
    return torch.allclose(a.sequence, b.sequence, rtol=rtol, atol=0) and torch.allclose(a.pooled, b.pooled, rtol=rtol, atol=0)


@pytest.mark.parametrize("scale", [0.01, 0.3, 1.0, 1e6])
def test_a_projection_lies_in_the_ball_and_projecting_it_again_changes_nothing(scale: float) -> None:
    once = project(random(1, scale=scale), AROUND, RADIUS)
    for found in lengths(once, AROUND):
        assert (found <= RADIUS * (1 + 1e-6)).all()
    assert near(project(once, AROUND, RADIUS), once)


def test_what_lies_inside_is_not_touched_and_what_lies_outside_keeps_its_direction() -> None:
    inside = random(1, scale=0.01)
    assert same(project(inside, AROUND, RADIUS), inside)
    outside = random(1, scale=50.0)
    found = project(outside, AROUND, RADIUS)
    for row in range(3):  # the nearest point of a ball is on the way to its centre
        ratio = found.sequence[row] / outside.sequence[row]
        assert torch.allclose(ratio, ratio.flatten()[0].expand_as(ratio))
        assert 0 < ratio.flatten()[0] < 1
    for reached in lengths(found, AROUND):
        assert torch.allclose(reached[:3], torch.tensor(RADIUS))


def test_each_sample_and_each_part_is_projected_by_itself() -> None:
    delta = TextCond(random(1, scale=50.0).sequence, random(1, scale=0.01).pooled)
    found = project(delta, AROUND, RADIUS)
    assert torch.equal(found.pooled, delta.pooled)
    alone = [project(delta[[i]], AROUND[[i]], RADIUS).sequence for i in range(4)]
    assert torch.allclose(torch.cat(alone), found.sequence)


@pytest.mark.parametrize("make", [
    lambda: project(random(1), AROUND, 0.0),
    lambda: random_start(AROUND, 0.0, torch.Generator().manual_seed(1)),
    lambda: step_towards(project(random(1), AROUND, 0.0), random(2), AROUND, 0.1, 0.0),
])  # fmt: skip
def test_a_ball_of_radius_nought_is_its_centre(make) -> None:  # type: ignore[no-untyped-def]
    delta = make()
    assert not delta.sequence.any()
    assert not delta.pooled.any()
    assert same(moved(AROUND, delta), AROUND)


def test_a_step_has_its_length_whatever_the_gradient() -> None:
    zero = project(random(1), AROUND, 0.0)
    for scale in (1e-30, 1.0, 1e30):
        gradient = random(2, scale=scale)
        found = step_towards(zero, gradient, AROUND, 0.1, RADIUS)
        for reached in lengths(found, AROUND):
            assert torch.allclose(reached[:3], torch.tensor(0.1))
        assert (found.sequence[:3] * gradient.sequence[:3]).sum((1, 2)).lt(0).all(), "downhill"
    for _ in range(9):
        found = step_towards(found, gradient, AROUND, 0.1, RADIUS)
    for reached in lengths(found, AROUND):
        assert torch.allclose(reached[:3], torch.tensor(RADIUS))


def test_no_gradient_no_step_and_no_nan() -> None:
    delta, zero = random(1, scale=0.01), random(2, scale=0.0)
    assert same(step_towards(delta, zero, AROUND, 0.1, RADIUS), delta)
    half = step_towards(delta, TextCond(random(2).sequence, zero.pooled), AROUND, 0.1, RADIUS)
    assert torch.equal(half.pooled, delta.pooled)
    assert not torch.equal(half.sequence, delta.sequence)
    assert torch.isfinite(half.sequence).all()


def test_steps_descend_to_the_nearest_point_of_the_ball() -> None:
    """The distance to a point outside is convex; its least value in the ball is at the point's projection."""
    goal = random(3, scale=5.0)
    delta = random_start(AROUND, RADIUS, torch.Generator().manual_seed(1))
    before = (delta.sequence - goal.sequence).square().sum((1, 2))
    for i in range(60):
        gradient = TextCond(delta.sequence - goal.sequence, delta.pooled - goal.pooled)
        delta = step_towards(delta, gradient, AROUND, RADIUS / (1 + i / 4), RADIUS)
    best = project(goal, AROUND, RADIUS)
    assert (((delta.sequence - goal.sequence).square().sum((1, 2)) < before) | (SIZES == 0)).all()
    for reached, size in zip((delta.sequence - best.sequence, delta.pooled - best.pooled), (AROUND.sequence, AROUND.pooled), strict=True):
        assert (reached.flatten(1).norm(dim=1) <= 0.02 * RADIUS * size.flatten(1).norm(dim=1)).all()


def test_random_starts_fill_the_ball_evenly() -> None:
    """The share within r of a ball in d dimensions is r^d; directions have no preference."""
    around = TextCond(torch.full((4000, 1, 2), 2.0), torch.full((4000, 3), 5.0))
    delta = random_start(around, RADIUS, torch.Generator().manual_seed(1))
    for reached, dimensions in zip(lengths(delta, around), (2, 3), strict=True):
        assert reached.max() <= RADIUS * (1 + 1e-6)
        for share in (0.5, 0.8):
            assert (reached < share * RADIUS).float().mean() == pytest.approx(share**dimensions, abs=0.03)
    assert (delta.pooled.mean(dim=0).abs() < 0.05 * RADIUS * around.pooled[0].norm()).all()
    again = random_start(around, RADIUS, torch.Generator().manual_seed(1))
    assert same(again, delta)
    assert not same(random_start(around, RADIUS, torch.Generator().manual_seed(2)), delta)


def test_half_precision_keeps_small_changes_until_they_are_added() -> None:
    around = random(0, dtype=torch.bfloat16)
    delta = random_start(around, 1e-3, torch.Generator().manual_seed(1))
    assert delta.sequence.dtype == torch.float32
    stepped = step_towards(delta, random(2, dtype=torch.bfloat16), around, 1e-4, 1e-2)
    assert not torch.equal(stepped.sequence, delta.sequence)
    found = moved(around, stepped)
    assert (found.sequence.dtype, found.pooled.dtype) == (torch.bfloat16, torch.bfloat16)
    leaf = TextCond(stepped.sequence.requires_grad_(), stepped.pooled)
    moved(around, leaf).sequence.float().square().sum().backward()
    assert leaf.sequence.grad is not None
    assert torch.allclose(leaf.sequence.grad, 2 * found.sequence.float(), rtol=0.02)
