"""Surgery: what becomes of a release that is passed on, quantised or mixed with what it was made from.

Whoever hands weights on may round them to 8 bits, and whoever has the base model's may put its text encoders or the layers that read text
back, or take a mean of both models' weights (Wortsman et al., ICML 2022, arXiv 2203.05482). The limit is for the rounding, which needs
nothing but the release and which users do every day; the rest is measured beside, since whoever has the base model can draw with that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from torch import Tensor, nn

from safeflux.attacks.drawing import batches
from safeflux.attacks.taught import direct, way
from safeflux.errors import OptionError, StageError
from safeflux.models.quiet import quiet
from safeflux.types import AuditTask, Sample, TextCond

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1

PRESETS = {"quick": {"images": 40, "merges": (0.5,)}}
_TEXT = ("context_embedder.", "time_text_embed.text_embedder.")  # the only layers that read raw text
Change = Callable[[str, Tensor], Tensor | None]  # a tensor's name and what it is: what it becomes, None to leave it


def surgery(
    model: Flux1, task: AuditTask, *, images: int = 60, merges: tuple[float, ...] = (0.1, 0.25, 0.5), batch: int = 16
) -> Iterator[Sample]:
    """``images`` direct prompts a concept from the erased model with its linear layers rounded to 8 bits.

    Beside it: with the base model's text encoders, with its layers that read text, and with each share (``merges``, 0 to 1) of its weights.
    Raises OptionError for numbers that make no sense, StageError when the base model has not been here, or nobody says where it is.
    """
    if min(images, batch) < 1 or not all(0 <= one <= 1 for one in merges):
        raise OptionError(f"surgery: images {images}, batch {batch}, merges {merges}; wanted numbers of at least 1 and shares of 0 to 1")
    pairs = direct(task, images)
    if task.which == "base":
        for part in batches(task, pairs, batch, "surgery"):
            latents = way(model, task, part, "surgery")[:, -1]
            yield from (Sample(image, *pair, "surgery") for pair, image in zip(part, model.decode(latents), strict=True))
        return
    if task.base is None:
        raise StageError("surgery needs the directory of the base model (task.base), and was given none")
    weights = _reader(task.base / "transformer")
    operations: dict[str, Change | None] = {"surgery": rounded, "surgery, text encoders of the base model": None}
    operations["surgery, text layers of the base model"] = lambda name, own: weights(name) if name.startswith(_TEXT) else None
    operations |= {f"surgery, {share:.0%} of the base model's weights": partial(_merged, weights, share) for share in merges}
    for name, change in operations.items():
        with changed(model.transformer, change) if change else nullcontext():
            for part in batches(task, pairs, batch, name):
                texts = [prompt.text for prompt, _ in part]
                cond = model.encode(texts) if change else _encoded(model, task.base, texts)
                latents = model.sample(model.noise([seed for _, seed in part]), cond, steps=task.steps)
                yield from (Sample(image, *pair, name) for pair, image in zip(part, model.decode(latents), strict=True))


@contextmanager
def changed(transformer: nn.Module, change: Change) -> Iterator[None]:
    """The transformer with its tensors changed while the context lasts; what was changed is kept on the CPU and put back."""
    kept: dict[str, Tensor] = {}
    try:
        for name, own in transformer.state_dict().items():
            if (new := change(name, own)) is not None:
                kept[name] = own.to("cpu", copy=True)
                own.copy_(new)
        yield
    finally:
        state = transformer.state_dict()
        for name, own in kept.items():
            state[name].copy_(own)


def rounded(name: str, own: Tensor) -> Tensor | None:
    """Weights of linear layers to 8 bits, symmetric, with a scale for each output: 255 values."""
    if own.dim() != 2:
        return None
    scale = own.float().abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / 127
    return (own.float() / scale).round().clamp(-127, 127) * scale


def _merged(weights: Callable[[str], Tensor], share: float, name: str, own: Tensor) -> Tensor:
    return (1 - share) * own.float() + share * weights(name).to(own.device).float()


def _reader(directory: Path) -> Callable[[str], Tensor]:
    """How to read a tensor of a ``transformer/`` directory by its name."""
    places: Mapping[str, Path] = {}
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            places = {**places, **dict.fromkeys(file.keys(), path)}

    def read(name: str) -> Tensor:
        if name not in places:
            raise StageError(f"surgery: the base model in {directory} has no {name}; wanted the model that the erased one was made from")
        with safe_open(places[name], "pt") as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor

    return read


def _encoded(model: Flux1, base: Path, texts: list[str]) -> TextCond:
    """What the base model's text encoders make of ``texts``; the model has its own again afterwards."""
    from transformers import CLIPTextModel, T5EncoderModel

    own = model.pipe.text_encoder, model.pipe.text_encoder_2
    kinds = {"text_encoder": CLIPTextModel, "text_encoder_2": T5EncoderModel}
    try:
        with quiet():
            loaded = [
                kind.from_pretrained(base / name, dtype=model.dtype, use_safetensors=True).to(model.device) for name, kind in kinds.items()
            ]
    except (OSError, ValueError, RuntimeError) as error:
        raise StageError(f"surgery: the text encoders of the base model in {base} cannot be loaded: {error}") from error
    try:
        model.pipe.text_encoder, model.pipe.text_encoder_2 = loaded
        return model.encode(texts)
    finally:
        model.pipe.text_encoder, model.pipe.text_encoder_2 = own
