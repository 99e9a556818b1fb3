"""EraseEval's fourth term on embeddings that are known."""

from dataclasses import replace

import numpy as np
import pytest
from test_embedding import INSTRUMENTS, SIGMA, directions, kernel, samples

from safeflux.instruments import Instruments, Photographs
from safeflux.metrics.erase_eval_distance import erase_eval_distance
from safeflux.metrics.mmd import unpaired

FAR, NEAR = directions(80, 2, 2.0), directions(80, 3, 0.5)  # from photographs that lie about evenly
PLACES = directions(90, 9).astype(np.float32)


def beside(places: np.ndarray = PLACES) -> Instruments:
    return replace(INSTRUMENTS, photographs=Photographs("known places", lambda: places))


def term(erased: np.ndarray, base: np.ndarray, instruments: Instruments = beside()):  # type: ignore[no-untyped-def] # noqa: B008
    return erase_eval_distance(samples(erased), samples(base), instruments, sigma=SIGMA)


def test_the_estimator_is_that_of_the_definition() -> None:
    x, y = directions(5, 1), directions(7, 2)

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-((a - b) ** 2).sum() / (2 * SIGMA**2)))

    within = [np.mean([k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j]) for z in (x, y)]
    wanted = sum(within) - 2 * np.mean([k(a, b) for a in x for b in y])
    (found,) = unpaired(x, y, kernel, np.ones((1, 5)), np.ones((1, 7)))
    assert found == pytest.approx(wanted)
    twice = np.concatenate([np.ones((1, 5)), [[2.0, 1, 0, 0, 2]]])
    _, again = unpaired(x, y, kernel, twice, np.ones((2, 7)))
    copies = x[[0, 1, 4]]
    pairs = {(0, 1): 2, (0, 2): 4, (1, 2): 2}  # how often two different ones meet; copies do not meet
    mine = sum(n * k(copies[i], copies[j]) for (i, j), n in pairs.items()) / sum(pairs.values())
    across = np.mean([k(a, b) for a in x[[0, 0, 1, 4, 4]] for b in y])
    assert again == pytest.approx(mine + within[1] - 2 * across)


def test_it_has_no_bias_between_equal_distributions() -> None:
    ones = np.ones((1, 10)), np.ones((1, 12))
    values = [unpaired(directions(10, 2 * i), directions(12, 2 * i + 1), kernel, *ones)[0] for i in range(400)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0


def test_a_model_that_draws_what_the_base_model_draws_keeps_all_of_it() -> None:
    score = term(FAR, FAR)
    assert (score.value, score.low, score.high, score.n) == (1, 1, 1, 80)


def test_farther_is_less_and_twice_as_far_is_nothing() -> None:
    assert term(NEAR, FAR).value == 1, "nearer is no better"
    little = term(directions(80, 3, 1.2), directions(80, 3, 1.0))
    assert 0 < little.low < little.value < 1
    assert term(FAR, NEAR).value == 0


def test_it_is_one_minus_the_share_by_which_the_distance_grew() -> None:
    erased, base = directions(80, 6, 1.0), directions(80, 6, 0.8)
    ones = np.ones((1, 80)), np.ones((1, 90))
    # the pictures' numbers are whole, so what is embedded is not quite what was drawn
    seen = [INSTRUMENTS.embed().images(np.stack([s.image for s in samples(x)])).astype(float) for x in (erased, base)]
    there, here = (unpaired(x, PLACES.astype(float), kernel, *ones)[0] for x in seen)
    assert term(erased, base).value == pytest.approx(1 - (there - here) / here)
    assert 0.2 < term(erased, base).value < 0.95


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="0 photographs are too few"):
        term(FAR, FAR, INSTRUMENTS)
    with pytest.raises(ValueError, match="2 photographs are too few"):
        term(FAR, FAR, beside(PLACES[:2]))
    with pytest.raises(ValueError, match="at least 3 pairs"):
        term(FAR[:2], FAR[:2])
    with pytest.raises(ValueError, match="no farther from the photographs than chance"):
        term(FAR, NEAR, beside(NEAR.astype(np.float32)))  # among themselves they are farther apart than each is from its copy
