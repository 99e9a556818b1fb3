"""A plan tells of a base that transformers 4 does not read. That it does not is shown in tests/exporters/test_versions.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from safeflux.plan.base import MINI
from safeflux.plan.older import notes_of


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The files that count, of the embedded model, which transformers 4 reads."""
    place = tmp_path / "base"
    for part in ("text_encoder", "tokenizer", "tokenizer_2"):
        shutil.copytree(MINI / part, place / part)
    shutil.copyfile(MINI / "model_index.json", place / "model_index.json")
    assert notes_of(place) == ()
    return place


def _told(base: Path, **more: object) -> None:
    path = base / "tokenizer_2" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


def test_a_vocabulary_that_stands_in_one_file_only(base: Path) -> None:
    CLIPTokenizer.from_pretrained(base / "tokenizer").save_pretrained(base / "new")
    shutil.rmtree(base / "tokenizer")
    (base / "new").rename(base / "tokenizer")
    (note,) = notes_of(base)
    assert note.startswith("transformers 4 does not read the base's tokenizer, which transformers 5 saved; so will it be with a release")
    _told(base, extra_special_tokens=["<extra_id_0>"])
    assert "the base's tokenizer and tokenizer_2, which" in notes_of(base)[0]


def test_a_list_of_special_tokens(base: Path) -> None:
    _told(base, extra_special_tokens={"of": "transformers 4"})
    assert notes_of(base) == ()
    _told(base, extra_special_tokens=[])
    assert "the base's tokenizer_2, which" in notes_of(base)[0]


def test_the_class_of_t5s_tokenizer(base: Path) -> None:
    path = base / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_2": ["transformers", "T5Tokenizer"]}))
    (base / "tokenizer_2" / "spiece.model").write_bytes(b"")
    assert notes_of(base) == ()
    (base / "tokenizer_2" / "spiece.model").unlink()
    assert "the base's tokenizer_2, which" in notes_of(base)[0]


@pytest.mark.parametrize("sharded", [False, True])
def test_names_of_weights_that_transformers_4_does_not_know(base: Path, sharded: bool) -> None:
    file = base / "text_encoder" / "model.safetensors"
    names = {name: name.removeprefix("text_model.") for name in load_file(file)}
    if sharded:
        file.unlink()
        file.with_name("model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(names.values(), "one")}))
    else:
        save_file({names[name]: tensor for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    (note,) = notes_of(base)
    assert note.startswith("transformers 4 finds no weights of the base's text_encoder and goes on with random ones")


def test_what_is_broken_is_for_others_to_tell(base: Path) -> None:
    (base / "text_encoder" / "model.safetensors").write_bytes(b"no header")
    (base / "tokenizer_2" / "tokenizer_config.json").write_text("[")
    assert notes_of(base) == ()
