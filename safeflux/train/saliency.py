"""How much each unit says for given prompts: the Wanda score (Sun et al., ICLR 2024, arXiv 2306.11695), step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn

from safeflux.errors import OptionError
from safeflux.models.flux1 import Flux1
from safeflux.models.sites import Site
from safeflux.train.task import TrainingTask


@torch.no_grad()
def wanda(
    model: Flux1,
    task: TrainingTask,
    prompts: Sequence[str],
    sites: Mapping[str, Site],
    *,
    seeds: Sequence[int],
    batch: int = 16,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Tensor]:
    """Scores [steps, units] by site, on the model's device in float32: root mean square of a unit's activation over tokens and pictures,
    times the norm of the weights that read it.

    One picture is drawn for each of ``prompts`` (which the task has embedded) from the noise seed beside it, ``batch`` at a time. The
    weights are a neuron's column of ``writes``; for a modulation output, which no weight reads, 1; a head is the norm over the
    scores of its ``width`` numbers. Only sums of squares are kept. ``progress`` is given the number of pictures done.
    Raises ``OptionError`` when there is no prompt, or not one seed a prompt.
    """
    if not prompts or len(prompts) != len(seeds):
        raise OptionError(f"saliency: {len(prompts)} prompts and {len(seeds)} noise seeds; wanted as many of one as of the other, and some")
    sums: list[dict[str, Tensor]] = [{} for _ in range(task.steps)]
    for start in range(0, len(prompts), batch):
        part = slice(start, start + batch)
        x, cond = model.noise(seeds[part]), task.embed(prompts[part])
        for step, (now, after) in enumerate(pairwise(model.sigmas(task.steps))):
            with _recorded(model.transformer, sites.values(), sums[step]):
                x = x + (after - now) * model.velocity(x, now, cond)
        if progress:
            progress(start + len(x))
    size = {name: (torch.stack([s[site.gate] for s in sums]) / len(prompts)).sqrt() for name, site in sites.items()}
    return {name: _scored(model.transformer, site, size[name]) for name, site in sites.items()}


def _scored(transformer: nn.Module, site: Site, size: Tensor) -> Tensor:
    """Scores [steps, units] from root mean squares [steps, numbers] of all that the site's gate module puts out (or takes in)."""
    numbers = site.units * site.width
    found = size[:, site.start : site.start + numbers]
    if site.writes:
        weight = transformer.get_parameter(f"{site.writes}.weight")[:, site.column : site.column + numbers]
        found = found * torch.linalg.vector_norm(weight, dim=0, dtype=torch.float32)
    scores: Tensor = torch.linalg.vector_norm(found.reshape(len(found), site.units, site.width), dim=2)
    return scores


@contextmanager
def _recorded(transformer: nn.Module, sites: Iterable[Site], into: dict[str, Tensor]) -> Iterator[None]:
    """While the context lasts, add to ``into``, by gate module, the squares of its numbers [n], summed over pictures, mean over tokens."""

    def add(path: str, x: Tensor) -> None:
        tokens = x[..., 0].numel() // len(x)
        # The norm casts as it sums, so no float32 copy of the activations is made.
        squares = torch.linalg.vector_norm(x, dim=tuple(range(x.ndim - 1)), dtype=torch.float32).square() / tokens
        into[path] = into[path] + squares if path in into else squares

    handles = []
    try:
        for path, takes_input in {site.gate: site.kind == "head" for site in sites}.items():
            module = transformer.get_submodule(path)
            if takes_input:
                handles.append(module.register_forward_pre_hook(lambda _m, inputs, p=path: add(p, inputs[0])))
            else:
                handles.append(module.register_forward_hook(lambda _m, _i, out, p=path: add(p, out)))
        yield
    finally:
        for handle in handles:
            handle.remove()
