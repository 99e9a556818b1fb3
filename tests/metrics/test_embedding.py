"""Embedding score and CMMD on embeddings that are known."""

import numpy as np
import pytest

from safeflux.instruments import Instruments
from safeflux.metrics.embedding_score import embedding_score
from safeflux.metrics.feature_distance import feature_distance, gaussian
from safeflux.metrics.mmd import pair_kernel, weighted_mean
from safeflux.types import Prompt, Sample

SIGMA = 0.5


def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return gaussian(x, y, SIGMA)


class Corner:
    """The first pixels of a picture as its embedding, scaled to length 1; texts are angles in degrees, in the first two dimensions."""

    name = "corner"

    def images(self, images: np.ndarray) -> np.ndarray:
        vectors = images.reshape(len(images), -1)[:, :3].astype(np.float32) - 100
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def texts(self, texts: list[str]) -> np.ndarray:
        angles = np.radians([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1).astype(np.float32)


INSTRUMENTS = Instruments(lambda images, label: pytest.fail("no detector is needed"), Corner)  # type: ignore[arg-type]


def samples(vectors: np.ndarray, texts: list[str] | None = None) -> list[Sample]:
    images = np.round(vectors * 99 + 100).astype(np.uint8)[:, None, None, :]
    texts = texts or ["0"] * len(vectors)
    return [
        Sample(image, Prompt(text, None, (), "general"), seed, "none") for seed, (image, text) in enumerate(zip(images, texts, strict=True))
    ]


def directions(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, 3)) + np.array([shift, 0, 0])
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_embedding_score_is_the_mean_cosine_of_picture_and_prompt() -> None:
    right = np.tile([1.0, 0, 0], (3, 1))
    score = embedding_score(samples(right, ["0", "60", "90"]), [], INSTRUMENTS)
    assert (score.n, score.k) == (3, None)
    assert score.value == pytest.approx((1 + 0.5 + 0) / 3, abs=1e-6)
    assert score.low < score.value < score.high


def test_pictures_that_are_the_same_have_no_distance() -> None:
    same = samples(directions(20, 0))
    score = feature_distance(same, same, INSTRUMENTS, sigma=SIGMA)
    assert (score.value, score.low, score.high) == pytest.approx((0, 0, 0), abs=1e-9)


def test_a_shift_is_seen_beyond_its_interval_and_more_of_it_more() -> None:
    base = samples(directions(60, 0))
    little, much = (feature_distance(samples(directions(60, 0, shift)), base, INSTRUMENTS, sigma=SIGMA) for shift in (0.5, 2.0))
    assert 0 < little.low < little.value < little.high < much.low < much.value


def test_the_estimator_is_that_of_the_definition() -> None:
    x, y = directions(6, 1), directions(6, 2)

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-((a - b) ** 2).sum() / (2 * SIGMA**2)))

    terms = [k(x[i], x[j]) + k(y[i], y[j]) - k(x[i], y[j]) - k(x[j], y[i]) for i in range(6) for j in range(6) if i != j]
    assert weighted_mean(pair_kernel(x, y, kernel), np.ones((1, 6)))[0] == pytest.approx(np.mean(terms))


def test_the_estimator_has_no_bias_between_equal_distributions() -> None:
    values = [weighted_mean(pair_kernel(directions(10, 2 * i), directions(10, 2 * i + 1), kernel), np.ones((1, 10)))[0] for i in range(400)]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error
    assert min(values) < 0  # a biased estimator (diagonal kept) never is


def test_copies_in_a_resample_are_not_compared_with_themselves() -> None:
    h = pair_kernel(directions(4, 3), directions(4, 4), kernel)
    (twice,) = weighted_mean(h, np.array([[2.0, 1, 0, 0]]))
    assert twice == pytest.approx(h[0, 1])


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 pairs"):
        feature_distance(samples(directions(2, 0)), samples(directions(2, 0)), INSTRUMENTS)


def test_a_resample_of_one_pair_alone_says_nothing_and_spoils_nothing() -> None:
    h = pair_kernel(directions(3, 3), directions(3, 4), kernel)
    assert np.isnan(weighted_mean(h, np.array([[0.0, 3, 0]]))).all()
    score = feature_distance(samples(directions(3, 1)), samples(directions(3, 2)), INSTRUMENTS, sigma=SIGMA)
    assert score.low < score.value < score.high
