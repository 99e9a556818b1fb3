import numpy as np
import pytest

from safeflux.attacks.genetic import Budget, breed, search

GENES = np.arange(100, 150)
BUDGET = Budget(population=40, generations=60, mutation=0.25, crossover=0.5, length=8)
GOAL = np.array([103, 149, 100, 120, 120, 131, 111, 140])


def missed(rows: np.ndarray) -> np.ndarray:
    return (rows != GOAL).sum(axis=1).astype(float)


def test_it_comes_near_the_goal_never_losing_ground() -> None:
    found = search(GENES, missed, BUDGET, np.random.default_rng(0))
    assert len(found.losses) == 61
    assert list(found.losses) == sorted(found.losses, reverse=True)
    assert found.losses[0] >= 5
    assert found.losses[-1] <= 2
    assert missed(found.row[None])[0] == found.losses[-1]


def test_it_beats_as_many_random_rows() -> None:
    rng = np.random.default_rng(0)
    random = missed(rng.choice(GENES, (40 + 60 * 20, 8))).min()
    assert search(GENES, missed, BUDGET, rng).losses[-1] < random


def test_the_same_generator_finds_the_same_and_another_something_else() -> None:
    one, same, other = (search(GENES, missed, BUDGET, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(one.row, same.row)
    assert one.losses == same.losses
    assert not np.array_equal(one.row, other.row)


def test_forbidden_rows_never_win() -> None:
    def loss(rows: np.ndarray) -> np.ndarray:
        return np.where((rows == 103).any(axis=1), np.inf, missed(rows))

    found = search(GENES, loss, BUDGET, np.random.default_rng(0))
    assert 103 not in found.row
    assert np.isfinite(found.losses[-1])


def test_it_asks_for_half_a_population_a_generation_and_reports_each() -> None:
    asked: list[int] = []
    ticks: list[int] = []

    def loss(rows: np.ndarray) -> np.ndarray:
        asked.append(len(rows))
        return missed(rows)

    search(GENES, loss, Budget(41, 3, 0.1, 0.5, 8), np.random.default_rng(0), ticks.append)
    assert asked == [41, 21, 21, 21]
    assert ticks == [1, 2, 3]


@pytest.mark.parametrize(("crossover", "mutation"), [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.25)])
def test_children_are_made_of_their_parents_and_at_most_one_gene(crossover: float, mutation: float) -> None:
    parents = np.stack([np.full(6, 1), np.full(6, 2)])
    children = breed(parents, 500, np.array([9]), Budget(4, 1, mutation, crossover, 6), np.random.default_rng(0))
    assert children.shape == (500, 6)
    changed = (children == 9).sum(axis=1)
    assert changed.max() <= 1
    assert changed.mean() == pytest.approx(1 - crossover + crossover * mutation, abs=0.07)
    kinds = {tuple(dict.fromkeys(row[row != 9].tolist())) for row in children}
    assert kinds == ({(1,), (2,)} if crossover == 0 else {(1,), (2,), (1, 2), (2, 1)})
