"""Which formats cannot come of a policy, told before anything is trained. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from safeflux.errors import PlanError
from safeflux.options import options
from safeflux.plan.base import Geometry
from safeflux.policy import Choice

ORIGINAL_WIDTH = 3072  # the only width that readers of FLUX.1's original layout know, diffusers' own among them
_NEEDS = {
    "gguf": ("gguf",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
}  # packages beside those of a release, in the extra of the exporter's name


def refuse(formats: Sequence[Choice], geometry: Geometry) -> None:
    """Raise PlanError for a format that the model's width, or what is installed here, does not allow."""
    for choice in formats:
        known, reason = options("exporter", choice.name), other_width(geometry.width)
        if reason and "keys" in known and choice.options.get("keys", known["keys"].default) == "original":
            raise PlanError(f"exports: {choice.name} cannot be made of this model: {reason}")
        for package in _NEEDS.get(choice.name, ()):
            if find_spec(package) is None:
                raise PlanError(f'exports: {choice.name} needs the package {package}; pip install "safeflux[{choice.name}]"')


def other_width(width: int) -> str:
    """Why nobody could load a transformer of this width under its original names; empty if everybody can."""
    if width == ORIGINAL_WIDTH:
        return ""
    return (
        f"the transformer is {width} wide, and readers of the original layout know {ORIGINAL_WIDTH} only; keys: diffusers writes one file "
        "under diffusers' own names, which diffusers loads at any width"
    )
