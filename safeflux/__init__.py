"""SafeFlux: erase concepts from a FLUX model, prove it, sign it.

    import safeflux

    result = safeflux.release("policies/demo.yaml", out=Path("runs/demo"))
    pipeline = safeflux.load(result.release_dir, trust=result.public_key)

Importing this imports nothing else; each name is fetched when it is first used. It is enough for stock diffusers to load a release
from which neurons were cut out.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from safeflux.errors import SafeFluxError as SafeFluxError
    from safeflux.errors import TrustError as TrustError
    from safeflux.examine import Examined as Examined
    from safeflux.examine import examine as examine
    from safeflux.growing import Grown as Grown
    from safeflux.growing import grow as grow
    from safeflux.load import load as load
    from safeflux.lora import slice_lora as slice_lora
    from safeflux.models.removed import SafeFlux2Transformer2DModel as SafeFlux2Transformer2DModel
    from safeflux.models.removed import SafeFluxChromaTransformer2DModel as SafeFluxChromaTransformer2DModel
    from safeflux.models.removed import SafeFluxQwenImageTransformer2DModel as SafeFluxQwenImageTransformer2DModel
    from safeflux.models.removed import SafeFluxSD3Transformer2DModel as SafeFluxSD3Transformer2DModel
    from safeflux.models.removed import SafeFluxTransformer2DModel as SafeFluxTransformer2DModel
    from safeflux.models.removed import SafeFluxZImageTransformer2DModel as SafeFluxZImageTransformer2DModel
    from safeflux.plan import make_plan as make_plan
    from safeflux.policy import Policy as Policy
    from safeflux.policy import load_policy as load_policy
    from safeflux.release import ReleaseResult as ReleaseResult
    from safeflux.release import release as release
    from safeflux.types import Report as Report
    from safeflux.verify import verify as verify

_WHERE = {
    "Examined": "safeflux.examine",
    "Grown": "safeflux.growing",
    "Policy": "safeflux.policy",
    "ReleaseResult": "safeflux.release",
    "Report": "safeflux.types",
    "SafeFlux2Transformer2DModel": "safeflux.models.removed",
    "SafeFluxChromaTransformer2DModel": "safeflux.models.removed",
    "SafeFluxError": "safeflux.errors",
    "SafeFluxQwenImageTransformer2DModel": "safeflux.models.removed",
    "SafeFluxSD3Transformer2DModel": "safeflux.models.removed",
    "SafeFluxTransformer2DModel": "safeflux.models.removed",
    "SafeFluxZImageTransformer2DModel": "safeflux.models.removed",
    "TrustError": "safeflux.errors",
    "examine": "safeflux.examine",
    "grow": "safeflux.growing",
    "load": "safeflux.load",
    "load_policy": "safeflux.policy",
    "make_plan": "safeflux.plan",
    "release": "safeflux.release",
    "slice_lora": "safeflux.lora",
    "verify": "safeflux.verify",
}

__all__ = [
    "Examined",
    "Grown",
    "Policy",
    "ReleaseResult",
    "Report",
    "SafeFlux2Transformer2DModel",
    "SafeFluxChromaTransformer2DModel",
    "SafeFluxError",
    "SafeFluxQwenImageTransformer2DModel",
    "SafeFluxSD3Transformer2DModel",
    "SafeFluxTransformer2DModel",
    "SafeFluxZImageTransformer2DModel",
    "TrustError",
    "examine",
    "grow",
    "load",
    "load_policy",
    "make_plan",
    "release",
    "slice_lora",
    "verify",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from safeflux.plan import version

        return version()
    if name == "ModelMixin":  # diffusers looks for it here, to learn how the model in a release is to be loaded
        return importlib.import_module("diffusers").ModelMixin
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


class _Package(ModuleType):
    """``safeflux.release``, ``load`` and ``examine`` are the functions, also after the submodules of these names were imported."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, getattr(value, name) if name in _WHERE and isinstance(value, ModuleType) else value)


sys.modules[__name__].__class__ = _Package
