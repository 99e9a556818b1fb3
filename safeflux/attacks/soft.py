"""Prompts with slots: places where an attack puts embeddings of its own in place of a token's, and follows gradients to them.

FLUX has two text encoders with a tokenizer each, and pipelines take a text for each (``prompt`` and ``prompt_2``). So a slot is one of
both: where it stands in CLIP's row of ids, and where in T5's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from safeflux.attacks.vocabulary import genes, texts_of
from safeflux.types import TextCond

if TYPE_CHECKING:
    from safeflux.models.flux1 import Flux1


@dataclass(frozen=True)
class Rows:
    """``ids`` [B, length] of one tokenizer, padded as the pipeline pads them; row b has its ``slots`` from ``start[b]`` on."""

    ids: Tensor
    start: Tensor
    slots: int

    def __getitem__(self, index: list[int]) -> Rows:
        return Rows(self.ids[index], self.start[index], self.slots)


@dataclass(frozen=True)
class Slotted:
    """The same prompts for both encoders."""

    clip: Rows
    t5: Rows

    def __getitem__(self, index: list[int]) -> Slotted:
        return Slotted(self.clip[index], self.t5[index])


def slotted(model: Flux1, texts: Sequence[tuple[str, str]], slots: int) -> Slotted:
    """Each text as what stands before and after its ``slots``; cut at the end where it is too long, as the pipeline would."""
    clip = _rows(model.tokenizer, texts, slots, int(model.tokenizer.model_max_length))
    return Slotted(clip, _rows(model.tokenizer_2, texts, slots, model.max_length))


def room(model: Flux1) -> int:
    """The most slots that both encoders read."""
    return min(int(model.tokenizer.model_max_length), model.max_length) - 2


def _rows(tokenizer: Any, texts: Sequence[tuple[str, str]], slots: int, length: int) -> Rows:
    first, last = _ends(tokenizer)
    filler, pad = int(genes(tokenizer)[0]), int(tokenizer.pad_token_id)
    rows, starts = [], []
    for before, after in texts:
        head, tail = ([] if not text else tokenizer(text, add_special_tokens=False).input_ids for text in (before, after))
        head = head[: length - slots - len(first) - len(last)]
        row = [*first, *head, *[filler] * slots, *tail][: length - len(last)] + last
        rows.append(row + [pad] * (length - len(row)))
        starts.append(len(first) + len(head))
    return Rows(torch.tensor(rows), torch.tensor(starts), slots)


def _ends(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that every row begins with, and those it ends with."""
    inner, whole = (list(tokenizer("a", add_special_tokens=more).input_ids) for more in (False, True))
    at = next(i for i in range(len(whole) - len(inner) + 1) if whole[i : i + len(inner)] == inner)
    return whole[:at], whole[at + len(inner) :]


def encode(model: Flux1, prompts: Slotted, clip: Tensor | None, t5: Tensor | None) -> TextCond:
    """What the encoders make of ``prompts`` with the embeddings ``clip`` and ``t5`` [B, slots, D] in the slots; gradients go to these.

    None leaves the filler of an encoder in its place.
    """
    return TextCond(sequence(model, prompts.t5, t5).to(model.dtype), pooled(model, prompts.clip, clip).to(model.dtype))


def pooled(model: Flux1, rows: Rows, embeddings: Tensor | None) -> Tensor:
    """CLIP's pooled vector [B, P] alone."""
    with _filled(model.text_encoder, model.text_encoder.get_input_embeddings(), rows, embeddings):
        found: Tensor = model.text_encoder(rows.ids.to(model.device)).pooler_output
    return found


def sequence(model: Flux1, rows: Rows, embeddings: Tensor | None) -> Tensor:
    """T5's sequence [B, T, D] alone."""
    with _filled(model.text_encoder_2, model.text_encoder_2.encoder.get_input_embeddings(), rows, embeddings):
        found: Tensor = model.text_encoder_2(rows.ids.to(model.device))[0]
    return found


@contextmanager
def _filled(encoder: nn.Module, table: nn.Module, rows: Rows, embeddings: Tensor | None) -> Iterator[None]:
    """While the context lasts, what the encoder looks up in ``table`` is replaced in the slots. Its weights need no gradients."""
    if embeddings is None:
        yield
        return
    places = rows.start[:, None] + torch.arange(rows.slots)
    rank = torch.arange(len(places))[:, None]

    def put(_module: nn.Module, _ids: object, out: Tensor) -> Tensor:
        return out.detach().index_put((rank.to(out.device), places.to(out.device)), embeddings.to(out.dtype))

    frozen = [p for p in encoder.parameters() if p.requires_grad]
    handle = table.register_forward_hook(put)
    try:
        encoder.requires_grad_(False)
        yield
    finally:
        handle.remove()
        for p in frozen:
            p.requires_grad_(True)


@dataclass(frozen=True)
class Vocabulary:
    """Tokens an attack may use: their ``ids`` [V] and embeddings ``table`` [V, D], float32, of one encoder."""

    ids: Tensor
    table: Tensor
    tokenizer: Any

    def texts(self, chosen: Tensor) -> list[str]:
        """The text of each row [B, slots] of places in this vocabulary."""
        return texts_of(self.tokenizer, np.asarray(self.ids[chosen.cpu()]))


def vocabularies(model: Flux1, banned: Sequence[str] = ()) -> tuple[Vocabulary, Vocabulary]:
    """CLIP's and T5's, without tokens that say ``banned`` names or are pieces of them."""
    found = []
    for tokenizer, encoder in ((model.tokenizer, model.text_encoder), (model.tokenizer_2, model.text_encoder_2)):
        ids = torch.from_numpy(genes(tokenizer, banned))
        table = encoder.get_input_embeddings().weight.detach()[ids.to(model.device)].float()
        found.append(Vocabulary(ids, table, tokenizer))
    return found[0], found[1]


class Tokens(Protocol):
    """What of one encoder's slots an attack moves: ``leaf``, which gradients go to, and the tokens that it stands for."""

    leaf: Tensor

    def put(self) -> Tensor:
        """Embeddings [B, slots, D] of whole tokens, with gradients to ``leaf`` as if they were its own."""
        ...

    def best(self) -> Tensor:
        """Places in the vocabulary [B, slots] of the tokens it has come to."""
        ...

    def settle(self) -> None:
        """After a step: back to where ``leaf`` may be."""
        ...
