"""A genetic search over rows of token ids, as in Ring-A-Bell, but one that never loses the best it has found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]  # [n, length] token ids
Loss = Callable[[Rows], NDArray[np.float64]]  # [n, length] to [n]; smaller is fitter, infinite is forbidden


@dataclass(frozen=True)
class Budget:
    """``population`` rows of ``length`` genes through ``generations``; ``mutation`` and ``crossover`` are chances, 0..1."""

    population: int
    generations: int
    mutation: float
    crossover: float
    length: int


@dataclass(frozen=True)
class Found:
    """The fittest row [length] and the best loss at the start and after each generation [generations + 1]; it never rises."""

    row: Rows
    losses: tuple[float, ...]


def search(genes: Rows, loss: Loss, budget: Budget, rng: np.random.Generator, tick: Callable[[int], None] | None = None) -> Found:
    """Minimise ``loss`` over rows of ``genes`` [g]. The fitter half of a generation lives on and breeds the other half.

    ``tick(generations done)`` is called as it goes. The same generator state gives the same result.
    """
    rows = rng.choice(genes, (budget.population, budget.length))
    losses = loss(rows)
    best = []
    for generation in range(budget.generations + 1):
        order = np.argsort(losses, kind="stable")
        rows, losses = rows[order], losses[order]
        best.append(float(losses[0]))
        if generation == budget.generations:
            break
        parents = max(1, budget.population // 2)
        children = breed(rows[:parents], budget.population - parents, genes, budget, rng)
        rows = np.concatenate([rows[:parents], children])
        losses = np.concatenate([losses[:parents], loss(children)])
        if tick:
            tick(generation + 1)
    return Found(rows[0], tuple(best))


def breed(parents: Rows, n: int, genes: Rows, budget: Budget, rng: np.random.Generator) -> Rows:
    """``n`` children: with chance ``crossover`` the head of one parent and the tail of another, else a copy of one.

    One gene changes in each copy (an unchanged one would be evaluated in vain) and, with chance ``mutation``, in the rest.
    """
    length = parents.shape[1]
    children = parents[np.arange(n) % len(parents)].copy()
    mates = parents[rng.integers(len(parents), size=n)]
    crossed = rng.random(n) < budget.crossover
    tail = np.arange(length) >= rng.integers(1, length + 1, size=n)[:, None]
    children = np.where(crossed[:, None] & tail, mates, children)
    changed = ~crossed | (rng.random(n) < budget.mutation)
    children[changed, rng.integers(length, size=n)[changed]] = rng.choice(genes, n)[changed]
    return children
