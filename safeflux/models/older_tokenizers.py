"""Tokenizers that transformers 5 saved, so that transformers 4 reads them, too: optimum's pipelines need it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safeflux.plan.older import only_fast


def readable(directory: Path) -> None:
    """Change the files of a tokenizer where transformers 4 would stop at them. Both versions make the same tokens of a text by them."""
    told = _read(directory / "tokenizer_config.json")
    before = dict(told)
    extra = told.get("extra_special_tokens")
    if isinstance(extra, list):  # by the name that it has now; what once had this one was a table
        del told["extra_special_tokens"]
        told |= {"additional_special_tokens": extra} if extra else {}
    if only_fast(directory):
        model = _read(directory / "tokenizer.json")["model"]
        if model["type"] == "BPE":
            _write(directory / "vocab.json", model["vocab"])
            merges = (merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"])
            (directory / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
        told.pop("add_prefix_space", None)  # would have it made from the file that is not there, though tokenizer.json has all of it
    if told != before:
        _write(directory / "tokenizer_config.json", told)


def readable_index(path: Path) -> None:
    """Change the index of a pipeline that names its T5 tokenizer as transformers 5 does, without the file that this name once asked for."""
    told = _read(path)
    if told.get("tokenizer_2") == ["transformers", "T5Tokenizer"] and not (path.parent / "tokenizer_2" / "spiece.model").is_file():
        _write(path, told | {"tokenizer_2": ["transformers", "T5TokenizerFast"]})


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
