"""The base model of a plan: where it lies, what it is made of, and what one evaluation of it takes. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safeflux.errors import PlanError
from safeflux.families import wrong_model, wrong_pipeline
from safeflux.plan.older import notes_of
from safeflux.policy import Policy

EMBEDDED = "builtin:flux-mini"
MINI = Path(__file__).resolve().parent.parent / "mini" / "model"
_GUIDED, _SHORT, _LONG = 28, 4, 512  # steps of guidance-distilled and of step-distilled models; T5 tokens of the former
_T5 = ("d_model", "d_kv", "num_heads", "d_ff", "num_layers", "feed_forward_proj")
_TIME = 256  # sinusoidal time features that every FLUX.1 embeds


@dataclass(frozen=True)
class Geometry:
    """What decides costs. Defaults are FLUX.1's; ``image_size`` is the side of its pictures in pixels, ``vae_scale`` pixels a latent."""

    double: int = 19
    single: int = 38
    heads: int = 24
    head_dim: int = 128
    joint: int = 4096
    pooled: int = 768
    channels: int = 64
    guidance: bool = False
    text_tokens: int = 256
    image_size: int = 512
    vae_scale: int = 8
    text_parameters: int = 4_630_511_616  # of T5's layers, without its vocabulary

    @property
    def width(self) -> int:
        return self.heads * self.head_dim

    @property
    def steps(self) -> int:
        return _GUIDED if self.guidance else _SHORT

    @property
    def tokens(self) -> int:
        """Image and text tokens of one picture."""
        return (self.image_size // (2 * self.vae_scale)) ** 2 + self.text_tokens

    @property
    def parameters(self) -> int:
        """Weights and biases of the transformer."""
        d, norms = self.width, 2 * self.head_dim  # RMS norms of queries and keys
        double = 2 * (18 * d * d + 15 * d + norms)  # each stream, in d x d: qkv 3, out 1, ff 8, AdaLN 6; biases 3 + 1 + 5 + 6
        single = 15 * d * d + 11 * d + norms  # qkv 3, mlp 4, out 5, AdaLN 3; biases 3 + 4 + 1 + 3
        embedders = [(self.channels, d), (self.joint, d), (_TIME, d), (d, d), (self.pooled, d), (d, d)]
        if self.guidance:
            embedders += [(_TIME, d), (d, d)]
        ends = [(d, 2 * d), (d, self.channels)]
        return self.double * double + self.single * single + sum(i * o + o for i, o in embedders + ends)

    @property
    def flops(self) -> float:
        """Floating-point operations of one evaluation (one picture, one step)."""
        d, blocks = self.width, self.double + self.single
        return 2.0 * blocks * 12 * d * d * self.tokens + 4.0 * blocks * self.tokens**2 * d

    @property
    def text_flops(self) -> float:
        """Floating-point operations of encoding one text with T5, padded as the pipeline pads; CLIP is small beside it."""
        return 2.0 * self.text_parameters * self.text_tokens

    @property
    def activations(self) -> int:
        """Numbers kept for the backward pass of one evaluation: measured on FLUX.1, 22.1 (double) and 19.1 (single) a token and channel."""
        return round(self.tokens * self.width * (self.double * 22.1 + self.single * 19.1))


@dataclass(frozen=True)
class BaseModel:
    """``directory`` and ``digest`` are None while the model has to be downloaded first; ``notes`` say what was assumed, and
    what older readers will not read."""

    directory: Path | None
    digest: str | None
    geometry: Geometry
    notes: tuple[str, ...] = ()


def find_base(policy: Policy) -> BaseModel:
    """The base model a policy names. ``PlanError`` when it is not where it should be, or is no FLUX.1."""
    model, revision = policy.base.model, policy.base.revision
    if policy.base.embedded:
        return _local(MINI, "the embedded model; python -m safeflux.mini.train makes it")
    if revision is None:
        folder = policy.source.parent if policy.source else Path()
        return _local((folder / Path(model).expanduser()).resolve(), f'base.model "{model}"')
    if wrong := wrong_model(model):
        raise PlanError(f'base.model "{model}": {wrong}')
    cached = _hub_cache() / f"models--{model.replace('/', '--')}" / "snapshots" / revision
    if (cached / "model_index.json").is_file():
        return _local(cached, f'the cached copy of "{model}"')
    distilled = "schnell" in model.lower()
    known = re.search(r"FLUX\.1-(schnell|dev)", model) is not None
    guess = "" if known else f"; it is taken to be built like FLUX.1-{'schnell' if distilled else 'dev'}"
    note = f"{model} at {revision[:12]} is not in {_hub_cache()} and has to be downloaded (about 34 GB){guess}"
    return BaseModel(None, None, Geometry(guidance=not distilled, text_tokens=256 if distilled else _LONG), (note,))


def directory(name: str) -> Path:
    """Where a base model is that was named outside of a policy: a directory, or the embedded one. PlanError where nothing is."""
    found = MINI if name == EMBEDDED else Path(name)
    if not (found / "model_index.json").is_file():
        raise PlanError(f"base {name}: {found} holds no model_index.json; wanted a diffusers directory, or {EMBEDDED}")
    return found


def _local(directory: Path, what: str) -> BaseModel:
    built = geometry(directory, what)
    return BaseModel(directory, directory_digest(directory), built, notes_of(directory))


def geometry(directory: Path, what: str) -> Geometry:
    """How the model in a diffusers directory is built; ``what`` it is, for the message of the PlanError if it is no FLUX."""
    index = directory / "model_index.json"
    if not index.is_file():
        raise PlanError(f"{what}: {directory} holds no model_index.json; wanted a diffusers FluxPipeline directory")
    if wrong := wrong_pipeline(_json(index)):
        raise PlanError(f"{what}: {index} {wrong}")
    return _geometry(directory)


def _geometry(directory: Path) -> Geometry:
    """Read as diffusers reads it: what a config leaves out is FLUX.1's."""
    transformer = _json(directory / "transformer" / "config.json")
    tokenizer = _json(directory / "tokenizer_2" / "tokenizer_config.json", {})
    vae = _json(directory / "vae" / "config.json", {})
    t5 = _json(directory / "text_encoder_2" / "config.json", {})
    usual = Geometry()
    guidance = bool(transformer.get("guidance_embeds", False))
    longest = tokenizer.get("model_max_length", _LONG)
    found = replace(
        usual,
        double=transformer.get("num_layers", usual.double),
        single=transformer.get("num_single_layers", usual.single),
        heads=transformer.get("num_attention_heads", usual.heads),
        head_dim=transformer.get("attention_head_dim", usual.head_dim),
        joint=transformer.get("joint_attention_dim", usual.joint),
        pooled=transformer.get("pooled_projection_dim", usual.pooled),
        channels=transformer.get("in_channels", usual.channels),
        guidance=guidance,
        text_tokens=int(min(_LONG if guidance else 256, longest)),
        image_size=_json(directory / "generation_config.json", {}).get("height", usual.image_size),
        vae_scale=2 ** (len(vae.get("block_out_channels", (0,) * 4)) - 1),
        text_parameters=_t5_parameters(**{name: t5[name] for name in _T5 if name in t5}),
    )
    wrong = [
        name
        for name, value in vars(found).items()
        if not isinstance(value, int) or (value < 1 and name not in ("guidance", "double", "single"))
    ]
    if wrong:
        raise PlanError(f"{directory}: its configuration gives no sound {', '.join(wrong)}; wanted whole numbers above 0")
    return found


def _t5_parameters(
    d_model: int = 4096, d_kv: int = 64, num_heads: int = 64, d_ff: int = 10240, num_layers: int = 24, feed_forward_proj: str = "gated-gelu"
) -> int:
    """Weights of the encoder's layers; defaults are T5-XXL's, the names those of its configuration."""
    return num_layers * d_model * (4 * d_kv * num_heads + (3 if "gated" in feed_forward_proj else 2) * d_ff)


def _json(path: Path, otherwise: dict[str, Any] | None = None) -> dict[str, Any]:
    if otherwise is not None and not path.is_file():
        return otherwise
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PlanError(f"{path} cannot be read: {error}; wanted a JSON file as diffusers writes it") from error
    if not isinstance(found, dict):
        raise PlanError(f"{path} holds a {type(found).__name__}; wanted a JSON object")
    return found


def _hub_cache() -> Path:
    """Where huggingface_hub keeps its downloads; its rule, without its import."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def directory_digest(directory: Path) -> str:
    """sha256 (hex) over name, size and sha256 of every file, in the order of names; hidden files and folders left out.

    Links to files count as the files they point to: that is how the hub's cache is laid out.
    """
    whole = hashlib.sha256()
    for path in sorted(_files(directory), key=lambda one: one.relative_to(directory).as_posix()):
        try:
            with path.open("rb") as file:
                inner = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
        except OSError as error:
            raise PlanError(f"{path} cannot be read: {error.strerror}") from error
        whole.update(f"{inner} {size} {path.relative_to(directory).as_posix()}\n".encode())
    return whole.hexdigest()


def _files(directory: Path) -> Iterator[Path]:
    for folder, inner, files in os.walk(directory):
        inner[:] = [name for name in inner if not name.startswith(".")]
        yield from (Path(folder) / name for name in files if not name.startswith("."))
