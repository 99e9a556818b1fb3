"""The recipe that was released with the paper, rebuilt as a baseline. Use ``mask`` for a release.

Zhang et al., *Minimalist Concept Erasure in Generative Models*, ICML 2025, arXiv 2507.13386. The paper's loss and masks; but the
constants, the order of things and the flaws are those of the authors' code, from a description of it:

- Gates cover the FFNs of both streams and the text stream's AdaLN in double blocks. Single blocks have none. Attention heads of double
  blocks get noise but no updates.
- Gates are drawn anew in every forward pass: in each denoising step, and again when a step is computed a second time for its gradient.
  So the gradient is not that of any one picture. Two backward passes a step, where one would do.
- Noise is bounded: with ``eps`` 0.5 and a logit of 3, a gate has a gradient once in 29 draws.
- One noise seed for all pictures, a fixed order of prompts, no neighbours among what must stay, no price on closing a gate.
- Every concept is trained apart. Masks are merged by their product, after each layer was cut to its best nine tenths whatever it learned.

Where the description leaves something open, this takes the likely reading or the one kinder to the recipe, and a comment says so.
Two things are other on purpose. The authors' targets are pictures edited with FlowEdit and FLUX.1 [dev]; here they are the base model's
own final latents for the anchor, from the same noise. And prompts are those of the task, so the filter is the one of ``prepare``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from safeflux.errors import OptionError
from safeflux.models.flux1 import Flux1
from safeflux.models.sites import Site, choose, gated
from safeflux.plan.erasing import PAPERS_PROMPTS
from safeflux.train.gates import concrete
from safeflux.train.task import TrainingTask
from safeflux.types import Masks, Progress, TextCond

log = logging.getLogger(__name__)

TRAINED = ("ff", "ff_context", "norm1_context")  # of double blocks, which alone have them
NOISY = ("attn.to_out", "attn.to_add_out")  # their learning rate is 0: noise in training, never cut


@dataclass(frozen=True)
class Recipe:
    """The numbers of one concept's training, as ``mce_2025`` takes them."""

    epochs: int
    beta: float
    rate: float
    decay: float
    initial: float
    temperature: float
    eps: float
    accumulate: int
    steps: int
    noise_seed: int


@dataclass(frozen=True)
class Example:
    """A prompt, the final latents [1, tokens, channels] it shall end in, and the weight of its error."""

    text: str
    target: Tensor
    weight: float


def mce_2025(
    model: Flux1,
    task: TrainingTask,
    *,
    epochs: int = 5,
    beta: float = 0.1,
    rate: float = 0.5,
    decay: float = 1e-2,
    initial: float = 3.0,
    temperature: float = 0.83,
    eps: float = 0.5,
    keep: float = 0.9,
    accumulate: int = 4,
    train_steps: int = 5,
    noise_seed: int = 48,
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> Masks:
    """Train one mask a concept by the released recipe and merge them. A baseline, kept to be compared with; do not use it for a release.

    ``epochs`` over all pairs of a concept and as many general prompts, whose error weighs ``beta``. AdamW with learning rate ``rate``
    and weight decay ``decay`` on logits that start at ``initial``, an update every ``accumulate`` pictures. Gates: ``temperature``, and
    noise log(u + eps) - log(1 - u + eps). ``train_steps`` denoising steps, whatever the task's are, from the noise of ``noise_seed``.
    ``keep``: share of each layer that is kept when masks are merged; for one concept alone, the gates with a logit above 0 are.

    Depends on ``task.seed`` alone. ``scratch`` holds the logits of each finished concept; an interrupted one is begun anew.
    Without general prompts in the task nothing is retained. Raises ``OptionError``.
    """
    if not 0 < keep <= 1 or min(epochs, accumulate, train_steps) < 1:
        raise OptionError(
            f"mce-2025: came keep {keep}, epochs {epochs}, accumulate {accumulate}, train_steps {train_steps}; "
            "wanted keep above 0 and up to 1, and the others at least 1"
        )
    recipe = Recipe(epochs, beta, rate, decay, initial, temperature, eps, accumulate, train_steps, noise_seed)
    each = [_once(model, task, number, recipe, scratch, progress) for number in range(len(task.concepts))]
    layers = layers_of(choose(model.sites(), TRAINED))
    return Masks({name: part.clone() for layer, gate in merge(each, keep).items() for name, part in _parts(layers[layer], gate).items()})


def merge(each: Sequence[Mapping[str, Tensor]], keep: float) -> dict[str, Tensor]:
    """Binary gates by layer from every concept's logits by layer: above 0 for one concept, else the product of each one's ``top``."""
    if len(each) == 1:
        return {layer: logit > 0 for layer, logit in each[0].items()}
    return {layer: torch.stack([top(logits[layer], keep) for logits in each]).all(0) for layer in each[0]}


def top(logit: Tensor, keep: float) -> Tensor:
    """Bool [units], True for the share ``keep`` (rounded down) with the largest relu(logit). Of equal ones the first are kept."""
    found = torch.zeros(len(logit), dtype=torch.bool)
    found[logit.relu().argsort(descending=True, stable=True)[: int(keep * len(logit))]] = True
    return found


def layers_of(sites: Mapping[str, Site]) -> dict[str, list[Site]]:
    """Sites by what the recipe ranks and draws as one: an FFN, an AdaLN with its six chunks, the attention of a block.

    Open: how heads are gated. Taken: one gate a head, the same draw for both streams, which attend together.
    """
    found: dict[str, list[Site]] = {}
    for site in sites.values():
        layer = site.gate.partition(".attn.")[0] + ".attn" if site.kind == "head" else site.gate
        found.setdefault(layer, []).append(site)
    return found


def _parts(sites: Sequence[Site], gate: Tensor) -> dict[str, Tensor]:
    """A layer's gates by site."""
    if sites[0].kind == "head":
        return {site.name: gate for site in sites}
    return {site.name: part for site, part in zip(sites, torch.split(gate, [site.units for site in sites]), strict=True)}


def _once(
    model: Flux1, task: TrainingTask, number: int, recipe: Recipe, scratch: Path | None, progress: Progress | None
) -> dict[str, Tensor]:
    """One concept's logits, as an earlier call left them in ``scratch``, or trained now; a file is there whole or not at all."""
    kept = None if scratch is None else scratch / f"mce-{number}.safetensors"
    if kept is not None and kept.is_file():
        return dict(load_file(kept))
    logits = _train(model, task, number, recipe, progress)
    log.debug("%s: %d gates closed when trained alone", task.concepts[number].name, sum(int((x <= 0).sum()) for x in logits.values()))
    if kept is not None:
        save_file(logits, kept.with_suffix(".partial"))
        kept.with_suffix(".partial").replace(kept)
    return logits


def _train(model: Flux1, task: TrainingTask, number: int, recipe: Recipe, progress: Progress | None) -> dict[str, Tensor]:
    """The trained logits [units] of each layer that can be cut, on the CPU, after one concept's training."""
    sites = choose(model.sites(), (*TRAINED, *NOISY))
    layers = layers_of(sites)
    logits = {name: _logit(parts, recipe, model.device) for name, parts in layers.items()}
    trained = {name: logit for name, logit in logits.items() if logit.requires_grad}
    adam = torch.optim.AdamW(trained.values(), lr=recipe.rate, weight_decay=recipe.decay)
    noise = model.noise([recipe.noise_seed])
    among = examples(model, task, number, recipe, noise)
    draw = drawing(layers, logits, recipe, torch.Generator().manual_seed(task.seed * 100_043 + number))
    with gated(model.transformer, sites, draw):
        for epoch in range(recipe.epochs):
            for index, example in enumerate(among):
                if progress:
                    progress(f"train the mask of {task.concepts[number].name}", epoch * len(among) + index, recipe.epochs * len(among))
                loss = sweep(model, list(trained.values()), noise, task.embed([example.text]), example, recipe.steps)
                log.debug("epoch %d, sample %d: loss %.4f, weight %g", epoch, index, loss, example.weight)
                # The index starts anew in every epoch: the first update has one sample, and what is left over goes to the next epoch's.
                if index % recipe.accumulate == 0:
                    adam.step()
                    adam.zero_grad(set_to_none=True)
    return {name: logit.detach().cpu() for name, logit in trained.items()}


def _logit(parts: Sequence[Site], recipe: Recipe, device: torch.device) -> Tensor:
    """A layer's logits in float32 (what was released is stored in bfloat16). Heads, whose learning rate is 0, need no gradient."""
    heads = parts[0].kind == "head"
    units = parts[0].units if heads else sum(site.units for site in parts)
    return torch.full((units,), recipe.initial, device=device, requires_grad=not heads)


def examples(model: Flux1, task: TrainingTask, number: int, recipe: Recipe, noise: Tensor) -> list[Example]:
    """The paper's number of pairs of a concept and the first general prompts, as many, with the base model's final latents as targets.

    Open: their order. Taken: a pair and a prompt in turn, so that an update sees both.
    """

    def ends(text: str) -> Tensor:
        return model.sample(noise, task.embed([text]), steps=recipe.steps)

    pairs = task.pairs[task.concepts[number].name][:PAPERS_PROMPTS]
    general = [prompt.text for prompt in task.retain if prompt.kind == "general"][: len(pairs)]
    found = []
    for i, pair in enumerate(pairs):
        found.append(Example(pair.prompt.text, ends(pair.anchor), 1.0))
        found += [Example(text, ends(text), recipe.beta) for text in general[i : i + 1]]
    return found


def drawing(
    layers: Mapping[str, Sequence[Site]], logits: Mapping[str, Tensor], recipe: Recipe, random: torch.Generator
) -> Callable[[], dict[str, Tensor]]:
    """A function that gives new gates by site whenever it is called; ``random`` is never set back."""

    def draw() -> dict[str, Tensor]:
        gates: dict[str, Tensor] = {}
        for layer, logit in logits.items():
            u = torch.rand(logit.shape, generator=random).to(logit.device)
            noise = (u + recipe.eps).log() - (1 - u + recipe.eps).log()
            gates |= _parts(layers[layer], concrete(logit, noise, recipe.temperature))
        return gates

    return draw


def sweep(model: Flux1, logits: Sequence[Tensor], noise: Tensor, cond: TextCond, example: Example, steps: int) -> float:
    """Add one picture's gradient to the ``grad`` of ``logits``; returns its weighted loss.

    The picture is drawn without gradients, then each step is computed again, last one first. The gates in force are new each time.
    Open: whether the loss is divided by the samples of an update. It is not; Adam's step hardly depends on it.
    """
    sigmas = model.sigmas(steps)
    path = [noise]
    with torch.no_grad():
        for now, after in pairwise(sigmas):
            path.append(path[-1] + (after - now) * model.velocity(path[-1], now, cond))
    end = path[-1].requires_grad_()
    loss = example.weight * (end - example.target).square().mean()
    (upstream,) = torch.autograd.grad(loss, end)
    for x, (now, after) in reversed(list(zip(path, pairwise(sigmas), strict=False))):
        here = x.detach().requires_grad_()
        there = here + (after - now) * model.velocity(here, now, cond)
        for logit, grad in zip(logits, torch.autograd.grad(there, logits, upstream, retain_graph=True), strict=True):
            logit.grad = grad if logit.grad is None else logit.grad + grad
        (upstream,) = torch.autograd.grad(there, here, upstream)
    return loss.item()
