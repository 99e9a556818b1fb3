"""Distances of pictures and of distributions, against closed forms and values that the reference implementations gave."""

from __future__ import annotations

import numpy as np
import pytest

from safeflux.instruments import Instruments
from safeflux.metrics.erase_eval import erase_eval
from safeflux.metrics.erase_eval_captions import captions, erase_eval_captions
from safeflux.metrics.erase_eval_fit import erase_eval_fit
from safeflux.metrics.fid import fid, frechet
from safeflux.metrics.in_prompt_score import in_prompt_score
from safeflux.metrics.kid import cubic, kid
from safeflux.metrics.mmd import pair_kernel, weighted_mean
from safeflux.metrics.perceptual_distance import distances, perceptual_distance
from safeflux.metrics.psnr import EQUAL, psnr, ratio
from safeflux.types import Prompt, Sample

RNG = np.random.default_rng(0)


class Means:
    """The mean colour of a picture, 100 taken away, as a unit vector; texts are the three colours."""

    name = "means"

    def images(self, images: np.ndarray) -> np.ndarray:
        x = images.mean(axis=(1, 2)) - 100
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    def texts(self, texts: list[str]) -> np.ndarray:
        return np.stack([np.eye(3)[("red", "green", "blue").index(text)] for text in texts]).astype(np.float32)

    def layers(self, images: np.ndarray) -> list[np.ndarray]:
        return [images.reshape(len(images), -1, 3).transpose(0, 2, 1).astype(np.float32)]


class Bright:
    name, threshold, digest, labels = "bright", 0.5, "", None

    def __call__(self, images: np.ndarray, label: str) -> np.ndarray:
        return images.mean(axis=(1, 2, 3)) > 130


INSTRUMENTS = Instruments(Bright(), Means)  # type: ignore[arg-type]


def samples(images: np.ndarray, rest: str = "") -> list[Sample]:
    return [Sample(image, Prompt("x", "x", ("x",), "direct", rest), seed, "none") for seed, image in enumerate(images)]


def noise(n: int, seed: int, shift: int = 0) -> np.ndarray:
    return (
        (np.random.default_rng(seed).integers(60, 140, (n, 1, 1, 3)) + np.array([shift, 0, 0])).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    )


def test_frechet_distance_of_normals_that_are_known() -> None:
    """Commuting covariances: |m - n|^2 + sum (sqrt a - sqrt b)^2; the sample's own moments are put in place exactly."""
    z = RNG.normal(size=(200, 3))
    z = (z - z.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(z, rowvar=False))).T
    spin, _ = np.linalg.qr(RNG.normal(size=(3, 3)))
    x, y = z * [1, 2, 3] @ spin.T, z[::-1] * [2, 2, 0.5] @ spin.T + [1, 0, -2]
    assert frechet(x, y) == pytest.approx(1 + 4 + (1 - 2) ** 2 + 0 + (3 - 0.5) ** 2)
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet(x, y) == pytest.approx(frechet(y, x))


def test_frechet_distance_agrees_with_the_matrix_root() -> None:
    from scipy.linalg import sqrtm

    x, y = RNG.normal(size=(60, 5)) @ RNG.normal(size=(5, 5)), RNG.normal(size=(50, 5)) + 0.3
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    wanted = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert frechet(x, y) == pytest.approx(wanted, rel=1e-8)


@pytest.mark.parametrize("metric", [fid, kid])
def test_equal_pictures_have_no_distance_and_a_shift_is_seen(metric) -> None:  # type: ignore[no-untyped-def]
    base = samples(noise(80, 1))
    same, other, far = (metric(samples(images), base, INSTRUMENTS) for images in (noise(80, 1), noise(80, 2), noise(80, 2, 60)))
    assert same.value == pytest.approx(0, abs=1e-9)
    assert abs(other.value) < far.low < far.value < far.high
    assert far.n == 80


def test_kernel_distance_is_the_unbiased_estimate_of_its_definition() -> None:
    x, y = RNG.normal(size=(7, 3)), RNG.normal(size=(7, 3))

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 3 + 1) ** 3)

    terms = [k(x[i], x[j]) + k(y[i], y[j]) - k(x[i], y[j]) - k(x[j], y[i]) for i in range(7) for j in range(7) if i != j]
    assert weighted_mean(pair_kernel(x, y, cubic), np.ones((1, 7)))[0] == pytest.approx(np.mean(terms))


def test_signal_to_noise_ratio() -> None:
    a, b = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    assert ratio(a, b) == pytest.approx(0)
    assert ratio(a, np.full_like(a, 1)) == pytest.approx(20 * np.log10(255))
    assert ratio(a, a) == EQUAL
    assert ratio(a, b) == ratio(b, a)
    score = psnr(samples(np.stack([a, a])), samples(np.stack([a, b])), INSTRUMENTS)
    assert score.value == pytest.approx(EQUAL / 2)


def test_perceptual_distance_is_between_directions_of_features() -> None:
    """At each place 0 for the same direction, 2 for a right angle, 4 for the opposite one; averaged over places and layers."""
    one = np.array([[[1.0, 0.0], [0.0, 1.0]]])  # one picture, two channels, two places
    assert distances([one], [3 * one]) == pytest.approx([0])
    assert distances([one], [one[:, ::-1]]) == pytest.approx([2])
    assert distances([one, one], [one[:, ::-1], -one]) == pytest.approx([3])
    base = samples(noise(5, 3))
    assert perceptual_distance(base, base, INSTRUMENTS).value == 0
    assert perceptual_distance(samples(noise(5, 3, 60)), base, INSTRUMENTS).low > 0


def test_in_prompt_score_asks_for_the_rest_of_the_prompt_alone() -> None:
    red = np.full((3, 2, 2, 3), (200, 100, 100), np.uint8)
    assert in_prompt_score(samples(red, "red"), [], INSTRUMENTS).value == pytest.approx(1)
    assert in_prompt_score(samples(red, "green"), [], INSTRUMENTS).value == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="1 of 3 prompts ask for something beside"):
        in_prompt_score([*samples(red[:1], "red"), *samples(red[:2])], [], INSTRUMENTS)


def test_erase_eval_is_likeness_where_the_concept_is_gone() -> None:
    base = np.full((4, 2, 2, 3), (200, 100, 100), np.uint8)
    alike, shown = base // 2 + np.array([60, 50, 50], np.uint8), np.full((2, 2, 2, 3), (250, 150, 100), np.uint8)
    score = erase_eval(samples(np.concatenate([alike[:2], shown])), samples(base), INSTRUMENTS)
    assert score.value == pytest.approx((1 + 1 + 0 + 0) / 4, abs=1e-6)


def test_captions_are_compared_where_the_concept_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures redder than green read "red". Of four pairs two tell the same, one another thing, one shows the concept."""
    monkeypatch.setattr("safeflux.metrics.erase_eval_captions.captions", lambda: ["red", "green"])
    base = samples(np.full((4, 2, 2, 3), (120, 101, 101), np.uint8))
    erased = np.stack([np.full((2, 2, 3), c, np.uint8) for c in ((115, 105, 101), (130, 101, 102), (101, 120, 101), (200, 190, 180))])
    assert erase_eval_captions(samples(erased), base, INSTRUMENTS).value == pytest.approx((1 + 1 + 0 + 0) / 4)


def coloured(erased: list[tuple[int, int, int]], base: list[tuple[int, int, int]], text: str) -> tuple[list[Sample], list[Sample]]:
    def drawn(colours: list[tuple[int, int, int]]) -> list[Sample]:
        images = [np.full((2, 2, 3), colour, np.uint8) for colour in colours]
        return [Sample(image, Prompt(text, None, (text,), "general"), seed, "none") for seed, image in enumerate(images)]

    return drawn(erased), drawn(base)


RED, GREEN, BETWEEN, AWAY = (200, 100, 100), (100, 200, 100), (180, 160, 100), (0, 100, 100)  # cosines with red: 1, 0, 0.8, -1


@pytest.mark.parametrize(("erased", "base", "wanted"), [
    ([RED, RED], [RED, RED], 1.0),
    ([BETWEEN, BETWEEN], [RED, RED], 0.8),
    ([RED, GREEN], [RED, RED], 0.5),
    ([RED, AWAY], [RED, RED], 0.5),  # below 0 is no fit, as CLIPScore has it
    ([RED, GREEN], [BETWEEN, BETWEEN], 1 / 1.6),
    ([RED, RED], [BETWEEN, BETWEEN], 1.0),  # better is not more than all
])  # fmt: skip
def test_what_is_kept_of_the_fit_to_prompts(erased: list, base: list, wanted: float) -> None:  # type: ignore[type-arg]
    score = erase_eval_fit(*coloured(erased, base, "red"), INSTRUMENTS)
    assert (score.n, score.k, score.value) == (2, None, pytest.approx(wanted, abs=1e-6))
    assert 0 <= score.low <= score.value <= score.high <= 1


def test_the_interval_of_what_is_kept_is_that_of_resampled_pairs() -> None:
    """Half of forty pictures lost: about as a share of 20 in 40 is known. What is kept throughout is known for sure."""
    score = erase_eval_fit(*coloured([RED, GREEN] * 20, [RED, RED] * 20, "red"), INSTRUMENTS)
    assert (score.low, score.high) == pytest.approx((0.5 - 1.96 * 0.5 / 40**0.5, 0.5 + 1.96 * 0.5 / 40**0.5), abs=0.03)
    sure = erase_eval_fit(*coloured([BETWEEN] * 9, [RED] * 9, "red"), INSTRUMENTS)
    assert (sure.low, sure.high) == pytest.approx((0.8, 0.8), abs=1e-6)


def test_a_fit_that_never_was_cannot_be_kept() -> None:
    with pytest.raises(ValueError, match="no picture of the base model fits its prompt"):
        erase_eval_fit(*coloured([RED, RED], [GREEN, AWAY], "red"), INSTRUMENTS)
    with pytest.raises(ValueError, match="at least 2 are needed"):
        erase_eval_fit(*coloured([RED], [RED], "red"), INSTRUMENTS)


def test_captions_name_plain_things_at_places() -> None:
    told = captions()
    assert {"an umbrella on the beach", "a cat"} <= set(told)
    assert len(set(told)) == len(told)


@pytest.mark.parametrize("metric", [fid, kid, psnr, perceptual_distance, erase_eval, erase_eval_captions, erase_eval_fit])
def test_a_picture_without_a_partner_is_refused(metric) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="no base picture of the same prompt"):
        metric(samples(noise(40, 1)), samples(noise(39, 1)), INSTRUMENTS)
