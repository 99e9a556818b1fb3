"""Weights that were zeroed, guessed from those around them: without data and without training.

*Roots Beneath the Cut* (CVPR 2026, arXiv 2603.06640): where single weights were pruned, their places show, and what is left of the matrix
tells enough of them. Three steps: the matrix is completed by iterated soft-thresholded singular values (Mazumder, Hastie and Tibshirani,
JMLR 2010); of the guesses only the larger ones stay, by their sign; and these get the largest magnitude that their row still has.
``guess="random"`` puts in signs of a coin instead, in as many places: the control that tells whether the completion knew anything.

A neuron that is zero on both sides, or gone, leaves no row and no column to guess from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from safeflux.attacks.drawing import draw
from safeflux.attacks.taught import direct
from safeflux.errors import OptionError
from safeflux.types import AuditTask, Sample

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1

Guess = Literal["completion", "random"]


def revive(
    model: Flux1,
    task: AuditTask,
    *,
    images: int = 60,
    guess: Literal["completion", "random"] = "completion",
    top: float = 0.6,
    scale: bool = True,
    threshold: float = 0.02,
    iterations: int = 50,
) -> Iterator[Sample]:
    """``images`` direct prompts a concept, drawn by the erased model with its zeros filled in; by the base model as it is.

    ``top``: the share of guesses that stay, the authors' 0.6; ``scale``: whether they get their row's largest magnitude; ``threshold`` of
    singular values, as a share of the largest; ``iterations`` of the completion, at most. The weights are put back in the end.

    Budget: no prompt, picture or gradient; singular values of every feed-forward matrix with zeros in it, ``iterations`` times.
    Raises OptionError for shares outside 0..1.
    """
    if not (0 < top <= 1 and 0 <= threshold < 1 and iterations >= 1 and images >= 1):
        came = f"top {top}, threshold {threshold}, iterations {iterations}, images {images}"
        raise OptionError(f"revive: {came}; wanted shares of up to 1, and at least one iteration and one picture")
    pairs = direct(task, images)
    if task.which == "base":
        yield from draw(model, task, pairs, "revive")
        return
    with filled(model.transformer, matrices(model), guess=guess, top=top, scale=scale, threshold=threshold, iterations=iterations):
        yield from draw(model, task, pairs, "revive")


def matrices(model: Flux1) -> list[str]:
    """The linear layers on both sides of every site of neurons."""
    sites = [site for site in model.sites().values() if site.kind == "neuron"]
    return list(dict.fromkeys(path for site in sites for path in (site.reads, site.writes) if path))


@contextmanager
def filled(
    transformer: nn.Module, paths: list[str], *, guess: Guess, top: float, scale: bool, threshold: float, iterations: int
) -> Iterator[int]:
    """The zeros of the layers at ``paths`` filled in while the context lasts; how many of them."""
    before, count = dict[str, Tensor](), 0
    try:
        for path in paths:
            weight = transformer.get_submodule(path).get_parameter("weight").data
            missing = weight == 0
            if not missing.any() or missing.all():
                continue
            before[path] = weight.clone()
            if guess == "completion":
                found = completed(weight.float(), missing, threshold=threshold, iterations=iterations)
            else:
                generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(path.encode()).digest()[:4]))
                found = torch.randn(weight.shape, generator=generator).to(weight.device)
            weight.copy_(torch.where(missing, retained(found, missing, weight.float(), top=top, scale=scale).to(weight.dtype), weight))
            count += int(missing.sum())
        yield count
    finally:
        for path, weight in before.items():
            transformer.get_submodule(path).get_parameter("weight").data.copy_(weight)


def completed(weight: Tensor, missing: Tensor, *, threshold: float, iterations: int, tolerance: float = 1e-5) -> Tensor:
    """``weight`` [out, in] with a guess where ``missing`` is True: the matrix of least rank, softly, that has the rest of its numbers.

    Begins with the means of columns; each step takes ``threshold`` of the largest singular value from all of them, until nothing moves.
    """
    means = weight.sum(0) / (~missing).sum(0).clamp(min=1)
    guess = torch.where(missing, means.expand_as(weight), weight)
    for _ in range(iterations):
        u, s, v = torch.linalg.svd(guess, full_matrices=False)
        after = torch.where(missing, (u * (s - threshold * s[0]).clamp(min=0)) @ v, weight)
        moved = (after - guess).norm() / guess.norm().clamp(min=1e-30)
        guess = after
        if moved < tolerance:
            break
    return guess


def retained(found: Tensor, missing: Tensor, weight: Tensor, *, top: float, scale: bool) -> Tensor:
    """The ``top`` share of the guesses by size, with the largest magnitude of their row (of all rows, where a row has none); zeros else."""
    sizes = found[missing].abs()
    least = sizes.kthvalue(max(1, len(sizes) - int(top * len(sizes)) + 1)).values if top < 1 else sizes.new_zeros(())
    stay = missing & (found.abs() >= least)
    if not scale:
        return torch.where(stay, found, 0.0)
    largest = weight.abs().amax(1, keepdim=True)
    return torch.where(stay, found.sign() * torch.where(largest > 0, largest, largest[largest > 0].median()), 0.0)
