"""Unified concept editing: one closed-form solve that makes the two layers which read raw text read the anchor instead.

Gandikota et al., *Unified Concept Editing in Diffusion Models*, WACV 2024, arXiv 2308.14761. With W = W0 + D, over the keys c of
concept prompts, a of their anchors and k of what must stay:

    min over D of   erase E|W c - W0 a|^2  +  preserve E|W k - W0 k|^2  +  ridge E|c|^2 |D|^2

FLUX has no cross-attention to raw text. T5's tokens enter through ``context_embedder`` alone, CLIP's pooled vector through
``time_text_embed.text_embedder.linear_1``; both layers are edited, in float64. Two things differ from the authors' port to FLUX:

- The bias. It stays as it is, so the targets are outputs without it: the edited layer lands on the base layer's whole output for
  the anchor. (The port puts the bias into the targets but not into the solve, and lands one bias beside them.)
- The tokens. FLUX attends to all positions, padding too, and gives every text token the same place (``txt_ids`` are zeros): what
  it reads is a set. So each position of a prompt gets the output of one position of its anchor, each used once, and of all such
  pairings, which are the same anchor to the model, the one that moves the tokens least. Prompts of other lengths, or the empty
  one, need no rule of their own, and the words around the concept stay what they are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from safeflux.errors import OptionError
from safeflux.models.flux1 import Flux1
from safeflux.train.task import TrainingTask
from safeflux.types import Progress, TextCond, Weights

log = logging.getLogger(__name__)

Keys = Callable[[TextCond], Tensor]  # what a layer reads of one prompt: [keys, in], float64

LAYERS: dict[str, Keys] = {
    "context_embedder": lambda cond: cond.sequence[0].double(),
    "time_text_embed.text_embedder.linear_1": lambda cond: cond.pooled.double(),
}


def uce(
    model: Flux1,
    task: TrainingTask,
    *,
    erase: float = 1.0,
    preserve: float = 10.0,
    ridge: float = 1e-4,
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> Weights:
    """Both layers' new weights; seconds, no gradients, nothing drawn, no chance.

    ``erase`` and ``preserve`` weigh mean squared errors: each concept counts the same, however many prompts it has, and so do all
    retained prompts and anchors together. ``ridge`` is the price of changing the weights, in units of the mean squared norm of
    the concepts' keys: it means the same for every model, and must be above 0. Raises ``OptionError`` for other values.
    """
    if not (ridge > 0 and erase >= 0 and preserve >= 0):
        raise OptionError(f"uce: erase {erase}, preserve {preserve}, ridge {ridge}; wanted a ridge above 0, the others at least 0")
    tensors = {}
    for done, (path, keys) in enumerate(LAYERS.items()):
        if progress:
            progress("solve for the weights", done, len(LAYERS))
        weight = model.transformer.get_submodule(path).weight
        change = _solve(weight.detach().double(), task, keys, (erase, preserve, ridge))
        log.debug("%s: changed by %.3g of its norm", path, float(change.norm() / weight.double().norm()))
        tensors[f"{path}.weight"] = (weight.detach().double() + change).to(weight.dtype).cpu()
    return Weights(tensors)


def _solve(weight: Tensor, task: TrainingTask, keys: Keys, prices: tuple[float, float, float]) -> Tensor:
    """The change D [out, in] for one layer's base ``weight``.

    In terms of D the errors are D c - W0 (a - c) and D k, so the solution is D = W0 M A^-1 with M = erase E(a - c)c' and
    A = erase E cc' + preserve E kk' + ridge E|c|^2.
    """
    erase, preserve, ridge = prices
    move, seen = torch.zeros(2, weight.shape[1], weight.shape[1], dtype=torch.float64, device=weight.device)
    for key, shift in _pairs(weight, task, keys):
        move += shift.mT @ key
        seen += key.mT @ key
    size = seen.trace()  # before the weights, so that the ridge means the same whatever they are
    kept = torch.zeros_like(seen)
    stay = [prompt.text for prompt in task.retain] + [pair.anchor for pairs in task.pairs.values() for pair in pairs]
    for text in stay:
        key = keys(task.cond[text]).to(weight.device)
        kept += key.mT @ key / (len(key) * len(stay))
    system = erase * seen + preserve * kept
    system.diagonal().add_(ridge * size)
    # A is symmetric and positive, so D A = W0 M is solved as A D' = (W0 M)'.
    return torch.cholesky_solve((weight @ (erase * move)).mT, torch.linalg.cholesky(system)).mT


def _pairs(weight: Tensor, task: TrainingTask, keys: Keys) -> Iterator[tuple[Tensor, Tensor]]:
    """Keys c of each concept prompt and a - c, both [keys, in] and scaled so that the sum over all is a mean over concepts."""
    for pairs in task.pairs.values():
        for pair in pairs:
            key, anchor = (keys(task.cond[text]).to(weight.device) for text in (pair.prompt.text, pair.anchor))
            scale = (len(key) * len(pairs) * len(task.pairs)) ** -0.5
            yield key * scale, (anchor[align(key @ weight.mT, anchor @ weight.mT)] - key) * scale


def align(outputs: Tensor, anchors: Tensor) -> Tensor:
    """For rows [n, out] of a layer's outputs, the row of ``anchors`` [n, out] each shall become: the pairing of least squared distance."""
    distance = torch.cdist(outputs, anchors).square()
    return torch.as_tensor(linear_sum_assignment(distance.cpu().numpy())[1], device=outputs.device)
