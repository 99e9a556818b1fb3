"""What of a base transformers 4 does not read, nor will of its release, which has it byte for byte. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_VOCABULARIES = ("vocab.json", "spiece.model")  # what transformers 4 saves beside, or instead of, tokenizer.json, and 5 leaves out
_PREFIX = "text_model."  # of the names of CLIP's weights; a CLIP that transformers 5 made, and did not load from a file, has none
_SEE = "so will it be with a release, which has these files byte for byte (docs/exports.md, Across versions)"


def notes_of(directory: Path) -> tuple[str, ...]:
    """What whoever publishes for older readers, too, has to know of the base in ``directory``, a sentence each; files that are broken
    are not its business."""
    notes, index = [], _json(directory / "model_index.json")
    classes = {name: index[name][-1] for name in ("tokenizer", "tokenizer_2") if isinstance(index.get(name), list) and index[name]}
    if unread := [name for name, loaded_by in classes.items() if isinstance(loaded_by, str) and not _read(directory / name, loaded_by)]:
        notes.append(f"transformers 4 does not read the base's {' and '.join(unread)}, which transformers 5 saved; {_SEE}")
    if (names := _weights(directory / "text_encoder")) and not any(name.startswith(_PREFIX) for name in names):
        notes.append(f"transformers 4 finds no weights of the base's text_encoder and goes on with random ones; {_SEE}")
    return tuple(notes)


def only_fast(tokenizer: Path) -> bool:
    """Whether all there is of the vocabulary is tokenizer.json, which is enough for transformers 5."""
    return (tokenizer / "tokenizer.json").is_file() and not any((tokenizer / name).is_file() for name in _VOCABULARIES)


def _read(tokenizer: Path, loaded_by: str) -> bool:
    """Whether transformers 4 reads this directory with the class that the pipeline's index names."""
    told = _json(tokenizer / "tokenizer_config.json")
    if isinstance(told.get("extra_special_tokens"), list):  # by the name that it has now; what once had this one was a table
        return False
    return not only_fast(tokenizer) or (loaded_by.endswith("Fast") and "add_prefix_space" not in told)


def _json(path: Path) -> dict[str, Any]:
    """The JSON object in a file, {} where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _weights(directory: Path) -> list[str]:
    """The names of the weights in a directory of safetensors."""
    if shards := _json(directory / "model.safetensors.index.json").get("weight_map"):
        return list(shards)
    try:
        with (directory / "model.safetensors").open("rb") as file:
            header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), 1 << 24)))
    except (OSError, ValueError):
        return []
    return [name for name in header if name != "__metadata__"] if isinstance(header, dict) else []
