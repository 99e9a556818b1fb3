"""A tiny FLUX and a task for it, shared by the tests of a module that leave both as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from training import small_task

from safeflux.models.flux1 import Flux1
from safeflux.train.task import TrainingTask


@pytest.fixture(scope="module")
def model(tiny: Path) -> Flux1:
    return Flux1.load(tiny)


@pytest.fixture(scope="module")
def task(model: Flux1) -> TrainingTask:
    return small_task(model)


@pytest.fixture(scope="module")
def alone(task: TrainingTask) -> TrainingTask:
    """The same with its first concept only."""
    return replace(task, concepts=task.concepts[:1])
