"""Latent drift on latents whose distances can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from safeflux.instruments import Instruments
from safeflux.metrics.latent_drift import drift, latent_drift
from safeflux.types import Prompt, Sample

NOTHING = Instruments(lambda images, label: images, lambda: pytest.fail("no embedder is needed"))  # type: ignore[arg-type]
BASE = np.array([[3.0, 0.0], [0.0, 4.0]], np.float32)  # length 5


def sample(seed: int, latents: np.ndarray | None, text: str = "a tree") -> Sample:
    return Sample(np.zeros((1, 1, 3), np.uint8), Prompt(text, None, ("tree",), "general"), seed, "none", latents)


@pytest.mark.parametrize(("erased", "wanted"), [
    (BASE, 0.0), (0 * BASE, 1.0), (-BASE, 2.0), (1.5 * BASE, 0.5), (BASE + np.array([[0, 3], [0, 4]], np.float32), 1.0),
    (BASE + np.array([[0, 0], [0.5, 0]], np.float32), 0.1),
])  # fmt: skip
def test_the_distance_is_relative_to_the_base_models_latents(erased: np.ndarray, wanted: float) -> None:
    assert drift(erased.astype(np.float32), BASE) == pytest.approx(wanted)
    assert drift(7 * erased.astype(np.float32), 7 * BASE) == pytest.approx(wanted), "in whatever units"


def test_the_mean_is_over_pictures_with_students_interval() -> None:
    """Drifts of 0, 0.5 and 1: mean 0.5, standard deviation 0.5, t(2, 97.5%) = 4.3027."""
    base = [sample(seed, scale * BASE) for seed, scale in ((1, 1), (2, 10), (3, 0.1))]
    erased = [sample(3, 0 * BASE), sample(1, BASE), sample(2, 15 * BASE)]
    score = latent_drift(erased, base, NOTHING)
    half = 4.302653 * 0.5 / np.sqrt(3)
    assert (score.n, score.k) == (3, None)
    assert (score.value, score.low, score.high) == pytest.approx((0.5, 0.5 - half, 0.5 + half), rel=1e-6)


def test_a_large_drift_is_not_rounded_by_the_latents_precision() -> None:
    assert drift(np.full((1, 2), 1e30, np.float32), np.full((1, 2), 1e20, np.float32)) == pytest.approx(1e10)


def test_what_cannot_be_compared_is_refused() -> None:
    base = [sample(1, BASE), sample(2, BASE)]
    with pytest.raises(ValueError, match="1 of 2 pictures have no base picture of the same prompt and noise seed"):
        latent_drift([base[0], sample(9, BASE)], base, NOTHING)
    with pytest.raises(ValueError, match="1 of 2 pairs were kept without their latents"):
        latent_drift([base[0], replace(base[1], latents=None)], base, NOTHING)
    with pytest.raises(ValueError, match="nothing to be relative to"):
        latent_drift(base, [sample(1, BASE), sample(2, 0 * BASE)], NOTHING)
    with pytest.raises(ValueError, match="at least 2 are needed"):
        latent_drift(base[:1], base, NOTHING)
