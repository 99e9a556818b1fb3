"""ONNX graphs, run by onnxruntime in the places that torch's modules have in stock diffusers' pipeline."""

from __future__ import annotations

import json
import logging
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import FluxPipeline
from torch import Tensor, nn

from safeflux.errors import StageError
from safeflux.models.flux1 import Flux1
from safeflux.models.loaded import Loaded
from safeflux.models.quiet import quiet

log = logging.getLogger(__name__)

TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-2}  # of the largest latent, after all steps
_GPU, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class Session(nn.Module):
    """One graph in place of a module. Tensors go in and come out on the CPU; onnxruntime computes where ``providers`` say."""

    def __init__(self, folder: Path, providers: list[str]) -> None:
        import onnxruntime

        super().__init__()
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=providers)
        self.config = SimpleNamespace(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
        self.takes = {one.name: torch.float16 if one.type == "tensor(float16)" else None for one in self.session.get_inputs()}
        self.device = torch.device("cpu")
        self.dtype = torch.float16 if self.session.get_outputs()[0].type == "tensor(float16)" else torch.float32

    def run(self, **inputs: Tensor | None) -> list[Tensor]:
        """The outputs in order. What is None, or no input of the graph, is left out."""
        given = {name: self._cast(name, tensor) for name, tensor in inputs.items() if tensor is not None and name in self.takes}
        return [torch.from_numpy(found) for found in self.session.run(None, given)]

    def _cast(self, name: str, tensor: Tensor) -> Any:
        plain = tensor.detach().cpu()
        return (plain.to(self.dtype) if plain.is_floating_point() else plain).numpy()


class _Transformer(Session):
    def forward(self, *, return_dict: bool = False, **inputs: Tensor | None) -> tuple[Tensor]:
        return (self.run(**inputs)[0],)


class _Clip(Session):
    def forward(self, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        state, pooled = self.run(input_ids=input_ids)
        return SimpleNamespace(last_hidden_state=state, pooler_output=pooled)


class _T5(Session):
    def forward(self, input_ids: Tensor, **_: Any) -> tuple[Tensor]:
        return (self.run(input_ids=input_ids)[0],)


class _Decoder(Session):
    def decode(self, latents: Tensor, return_dict: bool = False) -> tuple[Tensor]:
        return (self.run(latent_sample=latents)[0],)


def onnx(exported: Path, *, root: Path, base: Path | None, device: str, dtype: torch.dtype) -> Loaded:
    """The pipeline from ``exported`` alone: tokenizers and schedule by diffusers, every network by onnxruntime.

    On a GPU where the onnxruntime that is installed can use one (the extra ``onnx-gpu``), else on the CPU.
    """
    providers = _providers()
    transformer = _Transformer(exported / "transformer", providers)
    parts = {
        "text_encoder": _Clip(exported / "text_encoder", providers), "text_encoder_2": _T5(exported / "text_encoder_2", providers),
        "transformer": transformer, "vae": _Decoder(exported / "vae_decoder", providers),
    }  # fmt: skip
    with quiet():
        rest = FluxPipeline.from_pretrained(exported, **dict.fromkeys(parts))
    pipe = FluxPipeline(scheduler=rest.scheduler, tokenizer=rest.tokenizer, tokenizer_2=rest.tokenizer_2, **parts)
    where = transformer.session.get_providers()[0].removesuffix("ExecutionProvider")
    return Loaded(Flux1(root, pipe), f"onnxruntime {_version()} on {where}", TOLERANCE[transformer.dtype], None, exact=False)


def _providers() -> list[str]:
    """Where to compute: on a GPU if onnxruntime can and there is one."""
    import onnxruntime

    can = onnxruntime.get_available_providers()
    if torch.cuda.is_available() and _GPU not in can:
        log.warning('there is a GPU that onnxruntime cannot use; pip uninstall onnxruntime, then pip install "safeflux[onnx-gpu]"')
    return [one for one in (_GPU, _CPU) if one in can]


def _version() -> str:
    for package in ("onnxruntime", "onnxruntime-gpu"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    raise StageError('ONNX graphs are run with onnxruntime: pip install "safeflux[onnx]"')
