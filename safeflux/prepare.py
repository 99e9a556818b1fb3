"""From a plan to what a method trains on: prompts, anchors, the filter, cached text embeddings.

The paper's filter (arXiv 2507.13386, section 4) keeps a pair of prompts only if both are drawn against the same
background, because the loss would otherwise teach the background too. Here a pair survives if, from the same noise, the
base model draws the concept for the prompt, does not draw it for the anchor, and the pictures' borders agree.
"""

from __future__ import annotations

import itertools
import json
import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from safeflux import prompts, registry
from safeflux.errors import StageError
from safeflux.models.flux1 import Flux1
from safeflux.plan import Plan
from safeflux.plan.erasing import CANDIDATES
from safeflux.policy import Concept, Policy
from safeflux.train.task import Pair, TrainingTask
from safeflux.types import Masks, Progress, Prompt, Shows, TextCond

log = logging.getLogger(__name__)

HELD_OUT = 24  # prompts of each kind that the training is judged by
_KEPT = 2  # prompts to train on for a concept's neighbours, for each pair of its own; in general, at least four times as many
BORDER = 0.12  # mean absolute difference of the outer eighth, of 1, up to which two backgrounds agree


def prepare(policy: Policy, plan: Plan, out: Path, *, model: Flux1, progress: Progress) -> None:
    """Write ``prompts.json``, ``rollouts.safetensors`` and ``embeddings.safetensors`` into ``out``. Frees the model's text encoders.

    Rollouts are the base model's final latents [pairs, tokens, channels] for each pair's prompt and anchor, from one noise.

    Raises ``StageError`` when fewer than four pairs of a concept survive: then the base model does not draw it, the
    detector does not know it, or the anchor draws it as well.
    """
    seed = plan.seeds["prepare"]
    pairs: dict[str, list[Pair]] = {}
    rollouts: dict[str, torch.Tensor] = {}
    for at, concept in enumerate(policy.concepts):
        progress("draw candidate pairs", at, len(policy.concepts))
        among = candidates(concept, policy, plan.train_prompts, seed)
        drawn, anchors = reference(model, among, plan)
        kept = filtered(concept, model.decode(drawn), model.decode(anchors), policy)[: plan.train_prompts]
        pairs[concept.name] = [among[i] for i in kept]
        rollouts |= {f"{concept.name}.prompt": drawn[kept].cpu(), f"{concept.name}.anchor": anchors[kept].cpu()}
    save_file(rollouts, out / "rollouts.safetensors")
    retain, held_retain = retained(policy, plan.train_prompts, seed), retained(policy, HELD_OUT, seed, split="held-out")
    held_out = {c.name: about(c, policy, HELD_OUT, seed, "held-out") for c in policy.concepts}
    named = [p.text for p in (*retain, *held_retain, *itertools.chain(*held_out.values()))]
    texts = sorted({t for ps in pairs.values() for p in ps for t in (p.prompt.text, p.anchor)} | {*named, ""})
    tensors: dict[str, torch.Tensor] = {}
    for start in range(0, len(texts), 16):
        progress("embed prompts", start, len(texts))
        cond = model.encode(texts[start : start + 16])
        for row in range(len(cond)):
            tensors[f"{start + row}.sequence"] = cond.sequence[row].cpu().contiguous()
            tensors[f"{start + row}.pooled"] = cond.pooled[row].cpu().contiguous()
    model.free_text_encoders()
    record = {
        "texts": texts,
        "pairs": {name: [[_plain(p.prompt), p.anchor] for p in ps] for name, ps in pairs.items()},
        "retain": [_plain(p) for p in retain],
        "held_out": {name: [_plain(p) for p in ps] for name, ps in held_out.items()},
        "held_retain": [_plain(p) for p in held_retain],
    }
    (out / "prompts.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    save_file(tensors, out / "embeddings.safetensors")


def load_task(
    policy: Policy, plan: Plan, directory: Path, *, device: str = "cpu", shows: Shows | None = None, earlier: Masks | None = None
) -> TrainingTask:
    """Read what ``prepare`` wrote. ``shows`` is what a method may judge its own pictures with, ``earlier`` what was erased before."""
    record = json.loads((directory / "prompts.json").read_text(encoding="utf-8"))
    tensors = load_file(directory / "embeddings.safetensors", device=device)
    cond = {t: TextCond(tensors[f"{i}.sequence"][None], tensors[f"{i}.pooled"][None]) for i, t in enumerate(record["texts"])}
    pairs = {name: tuple(Pair(_prompt(p), anchor) for p, anchor in ps) for name, ps in record["pairs"].items()}
    drawn = load_file(directory / "rollouts.safetensors")
    distance = {name: float((drawn[f"{name}.prompt"] - drawn[f"{name}.anchor"]).float().square().mean()) for name in pairs}
    gone = {name: ~keep.to(device) for name, keep in earlier.keep.items()} if earlier else {}
    return TrainingTask(
        policy.concepts, pairs, tuple(map(_prompt, record["retain"])), cond, distance, plan.steps, plan.seeds["erase"],
        held_out={name: tuple(map(_prompt, ps)) for name, ps in record["held_out"].items()},
        held_retain=tuple(map(_prompt, record["held_retain"])), limits=policy.limits, shows=shows,
        shut={} if policy.base.merges else gone, begun=gone if policy.base.merges else {},
    )  # fmt: skip


def _plain(prompt: Prompt) -> dict[str, Any]:
    return asdict(prompt)


def _prompt(data: dict[str, Any]) -> Prompt:
    return Prompt(**data | {"expects": tuple(data["expects"])})


def candidates(concept: Concept, policy: Policy, wanted: int, seed: int) -> list[Pair]:
    """More pairs than wanted, targets in turn, each with its anchor sentence; where it names another concept too, that one's anchor."""
    others = [c for c in policy.concepts if c.name != concept.name]
    found = []
    for prompt in about(concept, policy, round(wanted * CANDIDATES), seed, "train"):
        rest = next((c for c in others if prompt.rest == _named(c)), None)
        anchor = anchored(prompt.text, concept, prompt.rest)
        found.append(Pair(prompt, anchored(anchor, rest) if rest else anchor))
    return found


def about(concept: Concept, policy: Policy, n: int, seed: int, split: prompts.Split) -> list[Prompt]:
    """``n`` prompts that name the concept, its targets in turn, some beside a thing that must stay or that is erased as well."""
    erased = [_named(c) for c in policy.concepts if c.name != concept.name and c.category != "style"]
    beside = [prompts.article(noun) for noun in policy.retain or prompts.NOUNS] + erased
    return prompts.about(concept.name, concept.targets, concept.category, n, split=split, seed=seed, label=concept.label, beside=beside)


def _named(concept: Concept) -> str:
    return prompts.named(concept.targets[0], concept.category)


def anchored(text: str, concept: Concept, rest: str = "") -> str:
    """``text`` with the concept's name replaced by its anchor; ``rest``, what it asks for beside it, if the anchor is empty."""
    if not concept.anchor:
        return rest
    name = next(t for t in sorted(concept.targets, key=len, reverse=True) if t in text)
    if concept.category in ("character", "identity"):
        return text.replace(name, concept.anchor)
    bare = re.sub(r"^(an?|the) ", "", concept.anchor)
    return re.sub(r"\ba ([aeiou])", r"an \1", re.sub(r"\ban ([^aeiou])", r"a \1", text.replace(name, bare)))


def reference(model: Flux1, pairs: list[Pair], plan: Plan) -> tuple[torch.Tensor, torch.Tensor]:
    """The base model's final latents [pairs, tokens, channels] for prompts and for anchors; both of a pair from one noise."""
    seeds = [plan.seeds["prepare"] + 7919 * i for i in range(len(pairs))]

    def roll(texts: list[str]) -> torch.Tensor:
        parts = range(0, len(texts), 16)
        rolled = (model.sample(model.noise(seeds[i : i + 16]), model.encode(texts[i : i + 16]), steps=plan.steps) for i in parts)
        return torch.cat(list(rolled))

    return roll([p.prompt.text for p in pairs]), roll([p.anchor for p in pairs])


def filtered(concept: Concept, drawn: NDArray[np.uint8], anchors: NDArray[np.uint8], policy: Policy) -> list[int]:
    """Which pairs the base model draws as they should be, by the pictures of prompts and anchors [pairs, H, W, 3].

    Where few backgrounds agree (an empty anchor leaves the background open), the best half by agreement is kept.
    """
    shows = _detector(concept, policy)
    good = np.flatnonzero(shows(drawn) & ~shows(anchors))
    gaps = border_gap(drawn, anchors)[good]
    limit = max(BORDER, float(np.median(gaps))) if len(good) else BORDER
    kept = [int(i) for i, gap in zip(good, gaps, strict=True) if gap <= limit]
    log.info("%s: %d of %d pairs drawn as they should be, %d with agreeing backgrounds", concept.name, len(good), len(drawn), len(kept))
    if len(kept) < 4:
        raise StageError(
            f"{concept.name}: of {len(drawn)} pairs of prompts only {len(kept)} are usable; wanted at least 4. The base model must "
            f"draw {concept.label!r} for them, and must not for the anchor {concept.anchor!r}; try other targets or another anchor"
        )
    return kept


def _detector(concept: Concept, policy: Policy) -> Callable[[NDArray[np.uint8]], NDArray[np.bool_]]:
    detect = registry.get("detector", concept.detector.name)(**concept.detector.options)
    return lambda images: np.asarray(detect(images, concept.label), dtype=bool)


def border_gap(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean absolute difference of the outer eighth of pictures [N, H, W, 3], of 1: [N]."""
    edge = a.shape[1] // 8
    ring = np.ones(a.shape[1:3], dtype=bool)
    ring[edge:-edge, edge:-edge] = False
    gap: NDArray[np.float64] = np.abs(a[:, ring].astype(np.float64) - b[:, ring]).mean(axis=(1, 2)) / 255
    return gap


def retained(policy: Policy, per_concept: int, seed: int, *, split: prompts.Split = "train") -> list[Prompt]:
    """Neighbours of every concept and at least as many general prompts, none of which names a concept.

    Only those to train on ask for two things at once: what must stay is audited by one at a time, and held to that.
    """
    found: list[Prompt] = []
    wanted = per_concept * (_KEPT if split == "train" else 1)
    for concept in policy.concepts:
        if concept.retain:
            found += prompts.retained(concept.retain, wanted, split=split, seed=seed, kind="neighbour", category=concept.category)
    if policy.retain:
        found += prompts.retained(
            policy.retain, wanted * max(4, len(policy.concepts)), split=split, seed=seed, kind="general", two=split == "train"
        )
    return list(_unique(found))


def _unique(found: Iterable[Prompt]) -> Iterable[Prompt]:
    seen: set[str] = set()
    for prompt in found:
        if prompt.text not in seen:
            seen.add(prompt.text)
            yield prompt
