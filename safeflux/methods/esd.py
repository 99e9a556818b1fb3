"""Erased Stable Diffusion: teach the model to steer away from a concept whenever it is asked for.

Gandikota et al., *Erasing Concepts from Diffusion Models*, ICCV 2023, arXiv 2303.07345. With v0 the base model's velocity:

    |v(x_t, c) - (v0(x_t, a) - eta (v0(x_t, c) - v0(x_t, a)))|^2

where c is a prompt that names the concept and a the same with its anchor (the empty prompt where a policy names none, as in the paper).
FLUX predicts velocities, and a difference of predictions at one x_t is the same thing there. Distilled models know no guidance, and
targets far beyond the anchor leave what they can draw: keep ``eta`` at 1 or below. Only noise levels that the sampler
visits are trained. x_t is where the student, as it is by now, gets from fresh noise with the concept's prompt.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from safeflux.errors import OptionError
from safeflux.models.flux1 import Flux1
from safeflux.models.flux1_layers import linear_layers
from safeflux.train.checkpoints import Checkpoints
from safeflux.train.task import TrainingTask
from safeflux.types import Progress, Weights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """One update's work: first the concept prompts (``anchors[i]`` is the i-th one's), then the retained ones; ``level`` of ``steps``."""

    texts: list[str]
    anchors: list[str]
    seeds: list[int]
    level: int


def esd(
    model: Flux1,
    task: TrainingTask,
    *,
    updates: int = 100,
    batch: int = 12,
    rate: float = 1e-4,
    eta: float = 0.5,
    preserve: float = 1.0,
    sites: Literal["text-attention", "attention", "ff"] = "attention",
    path: Literal["student", "teacher"] = "student",
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> Weights:
    """Fine-tune the layers that ``sites`` names (see ``safeflux.models.flux1_layers``) and return their weights and biases.

    ``updates`` steps of Adam with learning rate ``rate`` on ``batch`` pictures each, all at one noise level drawn anew. ``path``: who
    rolls the noise out to it. ``preserve``: the weight with which the student is held to the base model on retained prompts, for which
    half of the pictures are then drawn; the paper has none (0), and neighbours suffer for it. The model is left as it was, whatever
    happens. Weights are trained in float32 in any case, since small steps are lost in bfloat16: for FLUX.1, "attention" takes 50 GB
    beside the model, "text-attention" 14. With ``scratch``, an interrupted call continues there and ends with the same weights.
    Raises ``OptionError``.
    """
    if not (batch >= 1 and preserve >= 0):
        raise OptionError(f"esd: batch {batch}, preserve {preserve}; wanted a batch of at least 1, and to preserve at least 0")
    layers = linear_layers(model.transformer, sites)
    student = {f"{at}.{n}": nn.Parameter(p.detach().clone()) for at, layer in layers.items() for n, p in layer.named_parameters()}
    trained = {name: value.detach().float().clone() for name, value in student.items()}
    adam = torch.optim.Adam(trained.values(), lr=rate)
    kept = Checkpoints(scratch, trained, adam)
    for update in range(kept.resume().done, updates):
        if progress:
            progress("train the weights", update, updates)
        _copy(trained, student)
        loss = _loss(model, task, _draw(task, batch, update, preserve > 0 and bool(task.retain)), student, eta, preserve, path == "student")
        _step(adam, trained, torch.autograd.grad(loss, list(student.values()), materialize_grads=True))
        log.debug("update %d: loss %.4f", update, loss.item())
        kept.save(update + 1)
    return Weights({name: value.to(student[name].dtype).cpu() for name, value in trained.items()})


@torch.no_grad()
def _copy(trained: dict[str, Tensor], student: dict[str, nn.Parameter]) -> None:
    """Give the student the trained weights, in its own number format."""
    for name, value in student.items():
        value.copy_(trained[name])


def _step(adam: torch.optim.Adam, trained: dict[str, Tensor], gradients: tuple[Tensor, ...]) -> None:
    """One step of Adam on the trained weights, with the student's gradients."""
    for value, gradient in zip(trained.values(), gradients, strict=True):
        value.grad = gradient.float()
    adam.step()


def _draw(task: TrainingTask, batch: int, update: int, retain: bool) -> Batch:
    """Prompts, fresh noise seeds and noise level of one update, a function of the task's seed and the update's number alone."""
    random = torch.Generator().manual_seed(task.seed * 100_003 + update)

    def pick(among: int) -> int:
        return int(torch.randint(among, (), generator=random))

    stay = batch // 2 if retain else 0
    concepts = [task.concepts[(update * (batch - stay) + i) % len(task.concepts)] for i in range(batch - stay)]  # in turn
    pairs = [task.pairs[c.name][pick(len(task.pairs[c.name]))] for c in concepts]
    texts = [pair.prompt.text for pair in pairs] + [task.retain[pick(len(task.retain))].text for _ in range(stay)]
    return Batch(texts, [pair.anchor for pair in pairs], [pick(2**31) for _ in texts], pick(task.steps))


def _loss(
    model: Flux1, task: TrainingTask, batch: Batch, student: Mapping[str, nn.Parameter], eta: float, preserve: float, own_path: bool
) -> Tensor:
    """The batch's mean squared error, with a gradient to ``student``; base velocities are those of the model as it is."""
    n, sigmas, cond = len(batch.anchors), model.sigmas(task.steps), task.embed(batch.texts)
    with torch.no_grad():
        x = model.noise(batch.seeds)
        with _in_place(model.transformer, student) if own_path else nullcontext():
            for now, after in pairwise(sigmas[: batch.level + 1]):
                x = x + (after - now) * model.velocity(x, now, cond)
        level = sigmas[batch.level]
        base, anchor = model.velocity(x, level, cond), model.velocity(x[:n], level, task.embed(batch.anchors))
        target = torch.cat([anchor - eta * (base[:n] - anchor), base[n:]])
    with _in_place(model.transformer, student):
        error = (model.velocity(x, level, cond) - target).float().square().mean((1, 2))
    return error[:n].mean() + (preserve * error[n:].mean() if len(error) > n else 0.0)


@contextmanager
def _in_place(transformer: nn.Module, student: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """The student's parameters in the place of the transformer's own of the same name, which are not touched and come back at the end."""
    own = {name: transformer.get_parameter(name) for name in student}
    try:
        _put(transformer, student)
        yield
    finally:
        _put(transformer, own)


def _put(transformer: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
    for name, value in parameters.items():
        at, _, leaf = name.rpartition(".")
        setattr(transformer.get_submodule(at), leaf, value)
