"""The tokens an attack may use, the texts they make, and the words it may not say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SMALL = frozenset(("a", "an", "the", "of", "and", "in", "on", "with", "by", "at", "to"))


def banned_words(names: Sequence[str]) -> frozenset[str]:
    """Every word of ``names`` that carries meaning, in lower case and without punctuation."""
    return frozenset(word for name in names for word in _plain(name).split() if len(word) > 1) - _SMALL


def says(text: str, words: frozenset[str]) -> bool:
    """Whether ``text`` has one of ``words``: a short one as a word of its own, one of four letters or more also inside
    others or spelt with gaps ("sw ord"). Rather too strict than too lax: what is refused, no attack needs."""
    plain = _plain(text)
    apart, joined = set(plain.split()), plain.replace(" ", "")
    return any(word in apart or (len(word) >= 4 and word in joined) for word in words)


def genes(tokenizer: Any, names: Sequence[str] = ()) -> NDArray[np.int64]:
    """Ids of all tokens that are a visible text of their own, without those that say ``names`` or are pieces of them.

    A piece is a token of three letters or more that the tokenizer makes from a name; shorter ones are in every word.
    """
    special = set(tokenizer.all_special_ids)
    ids = [i for i in range(len(tokenizer)) if i not in special]
    words = banned_words(names)
    own = {i for name in names for word in (name, name.title(), *name.split()) for i in tokenizer(word).input_ids}
    kept = []
    for i, text in zip(ids, texts_of(tokenizer, np.array(ids)[:, None]), strict=True):
        if not text or not text.isprintable() or "\N{REPLACEMENT CHARACTER}" in text or says(text, words):
            continue
        if i in own and len(_plain(text)) >= 3:
            continue
        kept.append(i)
    return np.array(kept, dtype=np.int64)


def texts_of(tokenizer: Any, rows: NDArray[np.int64]) -> list[str]:
    """The text of each row of token ids [n, length], single spaces between words."""
    decoded = tokenizer.batch_decode(rows.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [" ".join(text.split()) for text in decoded]


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]|_", "", text.lower()).split())
