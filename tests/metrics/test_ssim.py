"""SSIM against cases that can be worked out by hand, and against a plain double loop."""

import numpy as np
import pytest

from safeflux.instruments import Instruments
from safeflux.metrics.ssim import similarity, ssim
from safeflux.types import Prompt, Sample

C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
RNG = np.random.default_rng(0)
TEXTURE = RNG.integers(0, 200, (24, 20, 3)).astype(np.uint8)


def flat(value: int) -> np.ndarray:
    return np.full((16, 16, 3), value, np.uint8)


def test_equal_pictures_score_one() -> None:
    assert similarity(TEXTURE, TEXTURE) == pytest.approx(1)


@pytest.mark.parametrize(("a", "b"), [(100, 120), (0, 255), (7, 8)])
def test_flat_pictures_differ_by_luminance_alone(a: int, b: int) -> None:
    assert similarity(flat(a), flat(b)) == pytest.approx((2 * a * b + C1) / (a * a + b * b + C1))


def test_a_constant_shift_leaves_contrast_and_structure() -> None:
    grey = np.repeat(RNG.integers(90, 110, (11, 11, 1)), 3, axis=2).astype(np.uint8)  # one window: one local mean
    at = np.arange(11) - 5
    window = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * 1.5**2))
    mean = float((grey[..., 0] * window / window.sum()).sum())
    shifted = mean + 40
    assert similarity(grey, grey + 40) == pytest.approx((2 * mean * shifted + C1) / (mean**2 + shifted**2 + C1))


def test_it_equals_the_definition_window_by_window() -> None:
    other = np.clip(TEXTURE.astype(int) + RNG.integers(-60, 60, TEXTURE.shape), 0, 255).astype(np.uint8)
    x, y = (image.astype(float) @ [0.299, 0.587, 0.114] for image in (TEXTURE, other))
    at = np.arange(11) - 5
    w = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * 1.5**2))
    w /= w.sum()
    values = []
    for i in range(24 - 10):
        for j in range(20 - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            ma, mb = (w * a).sum(), (w * b).sum()
            va, vb, c = (w * (a - ma) ** 2).sum(), (w * (b - mb) ** 2).sum(), (w * (a - ma) * (b - mb)).sum()
            values.append((2 * ma * mb + C1) * (2 * c + C2) / ((ma**2 + mb**2 + C1) * (va + vb + C2)))
    assert similarity(TEXTURE, other) == pytest.approx(np.mean(values))
    assert similarity(TEXTURE, other) < 0.9


def test_an_inverted_texture_scores_below_zero() -> None:
    assert similarity(TEXTURE, 199 - TEXTURE) < 0


def test_too_small_a_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 11 x 11"):
        similarity(flat(0)[:10], flat(0)[:10])


def sample(image: np.ndarray, seed: int) -> Sample:
    return Sample(image, Prompt("p", None, (), "general"), seed, "none")


def test_pairs_are_found_by_prompt_and_seed_not_by_place() -> None:
    unused = Instruments(lambda images, label: images, lambda: pytest.fail("no embedder is needed"))  # type: ignore[arg-type]
    base = [sample(flat(0), 1), sample(flat(255), 2), sample(TEXTURE[:16, :16], 3)]
    score = ssim(base[::-1], base, unused)
    assert (score.n, score.value, score.low, score.high) == (3, *[pytest.approx(1)] * 3)
    with pytest.raises(ValueError, match="1 of 2 pictures have no base picture"):
        ssim([sample(flat(0), 1), sample(flat(0), 9)], base, unused)
