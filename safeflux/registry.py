"""Names a policy may use, and where the functions behind them live.

A name stands for a "module:function" string, so that names can be listed and checked without importing torch; the
module is imported when the function is asked for. A third party adds names with an entry point in the group
"safeflux.methods", "safeflux.attacks", "safeflux.metrics", "safeflux.detectors", "safeflux.exporters" or "safeflux.loaders".
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Literal

from safeflux.errors import RegistryError

Kind = Literal["method", "attack", "metric", "detector", "exporter", "loader"]

BUILT_IN: dict[Kind, dict[str, str]] = {
    "method": {
        "mask": "safeflux.methods.mask:mask",
        "mce-2025": "safeflux.methods.mce_2025:mce_2025",
        "uce": "safeflux.methods.uce:uce",
        "esd": "safeflux.methods.esd:esd",
        "concept-prune": "safeflux.methods.concept_prune:concept_prune",
    },
    "attack": {
        "none": "safeflux.attacks.none:none",
        "paraphrase": "safeflux.attacks.paraphrase:paraphrase",
        "prompts": "safeflux.attacks.prompts:prompts",
        "ring-a-bell": "safeflux.attacks.ring_a_bell:ring_a_bell",
        "mma": "safeflux.attacks.mma:mma",
        "embedding-pgd": "safeflux.attacks.embedding_pgd:embedding_pgd",
        "noise": "safeflux.attacks.noise:noise",
        "completion": "safeflux.attacks.completion:completion",
        "revive": "safeflux.attacks.revive:revive",
        "concept-inversion": "safeflux.attacks.concept_inversion:concept_inversion",
        "unlearndiffatk": "safeflux.attacks.unlearndiffatk:unlearndiffatk",
        "p4d": "safeflux.attacks.p4d:p4d",
        "latent-inversion": "safeflux.attacks.latent_inversion:latent_inversion",
        "edit": "safeflux.attacks.edit:edit",
        "relearn": "safeflux.attacks.relearn:relearn",
        "surgery": "safeflux.attacks.surgery:surgery",
    },
    "metric": {
        "detection": "safeflux.metrics.detection:detection",
        "retained": "safeflux.metrics.retained:retained",
        "neighbours": "safeflux.metrics.neighbours:neighbours",
        "embedding-score": "safeflux.metrics.embedding_score:embedding_score",
        "feature-distance": "safeflux.metrics.feature_distance:feature_distance",
        "ssim": "safeflux.metrics.ssim:ssim",
        "psnr": "safeflux.metrics.psnr:psnr",
        "perceptual-distance": "safeflux.metrics.perceptual_distance:perceptual_distance",
        "latent-drift": "safeflux.metrics.latent_drift:latent_drift",
        "fid": "safeflux.metrics.fid:fid",
        "kid": "safeflux.metrics.kid:kid",
        "in-prompt-score": "safeflux.metrics.in_prompt_score:in_prompt_score",
        "erase-eval": "safeflux.metrics.erase_eval:erase_eval",
        "erase-eval-captions": "safeflux.metrics.erase_eval_captions:erase_eval_captions",
        "erase-eval-fit": "safeflux.metrics.erase_eval_fit:erase_eval_fit",
        "erase-eval-distance": "safeflux.metrics.erase_eval_distance:erase_eval_distance",
    },
    "detector": {
        "mini": "safeflux.detectors.mini:mini",
        "mini-checker": "safeflux.detectors.mini:mini_checker",
        "nudenet": "safeflux.detectors.nudenet:nudenet",
        "zero-shot": "safeflux.detectors.zero_shot:zero_shot",
        "onnx": "safeflux.detectors.onnx_classifier:onnx_classifier",
    },
    "exporter": {
        "diffusers": "safeflux.exporters.diffusers:diffusers",
        "removed": "safeflux.exporters.diffusers:diffusers",  # the same of another layout, beside one that is dense
        "single-file": "safeflux.exporters.single_file:single_file",
        "fp8": "safeflux.exporters.fp8:fp8",
        "gguf": "safeflux.exporters.gguf:gguf",
        "delta": "safeflux.exporters.delta:delta",
        "onnx": "safeflux.exporters.onnx:onnx",
    },
    "loader": {  # each by the name of the exporter whose files it loads
        "diffusers": "safeflux.loaders.diffusers:diffusers",
        "removed": "safeflux.loaders.diffusers:diffusers",
        "single-file": "safeflux.loaders.single_file:single_file",
        "fp8": "safeflux.loaders.single_file:fp8",
        "gguf": "safeflux.loaders.single_file:gguf",
        "delta": "safeflux.loaders.delta:delta",
        "onnx": "safeflux.loaders.onnx:onnx",
    },
}


def names(kind: Kind) -> tuple[str, ...]:
    """All names of ``kind``: the built-in ones in their order, then those of third parties."""
    return tuple(_table(kind))


def target(kind: Kind, name: str) -> str:
    """The "module:function" behind ``name``; imports nothing. RegistryError for a name nobody has."""
    table = _table(kind)
    if name not in table:
        close = difflib.get_close_matches(name, table, 1)
        hint = f'; did you mean "{close[0]}"?' if close else ""
        raise RegistryError(f'there is no {kind} "{name}"; there is {", ".join(table)}{hint}')
    return table[name]


def get(kind: Kind, name: str) -> Callable[..., Any]:
    """The function behind ``name``, its module imported now. RegistryError if it is not there or cannot be imported."""
    where = target(kind, name)
    module, _, attribute = where.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        wants = ' (is it installed? pip install "safeflux[release]")' if isinstance(error, ImportError) else ""
        raise RegistryError(f'{kind} "{name}" cannot be loaded from {where}: {error}{wants}') from error
    if not callable(found):
        raise RegistryError(f'{kind} "{name}": {where} is not a function but {type(found).__name__}')
    return found  # type: ignore[no-any-return]


@cache
def _table(kind: Kind) -> dict[str, str]:
    """A third party cannot take a built-in name: what a policy means must not depend on what else is installed."""
    if kind not in BUILT_IN:
        raise RegistryError(f'"{kind}" is not a kind of plug-in; there is {", ".join(BUILT_IN)}')
    table = dict(BUILT_IN[kind])
    for point in sorted(entry_points(group=f"safeflux.{kind}s"), key=lambda p: (p.name, p.value)):
        if point.name in table:
            raise RegistryError(f'{kind} "{point.name}" is registered twice: as {table[point.name]} and as {point.value}')
        table[point.name] = point.value
    return table
