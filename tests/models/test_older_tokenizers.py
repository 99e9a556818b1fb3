"""Tokenizers that this version saves get the files that transformers 4 reads; those that have them stay as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from safeflux.files import tree
from safeflux.models.older_tokenizers import readable, readable_index


@pytest.fixture
def saved(tiny: Path, tmp_path: Path) -> Path:
    CLIPTokenizer.from_pretrained(tiny / "tokenizer").save_pretrained(tmp_path / "tokenizer")
    assert not (tmp_path / "tokenizer" / "vocab.json").exists()
    return tmp_path / "tokenizer"


def test_clips_vocabulary_and_merges_are_those_it_was_made_of(tiny: Path, saved: Path) -> None:
    readable(saved)
    assert json.loads((saved / "vocab.json").read_text()) == json.loads((tiny / "tokenizer" / "vocab.json").read_text())
    assert (saved / "merges.txt").read_text() == (tiny / "tokenizer" / "merges.txt").read_text()
    before = tree(saved)
    readable(saved)
    assert tree(saved) == before


@pytest.mark.parametrize(("extra", "becomes"), [([], {}), (["<extra_id_0>"], {"additional_special_tokens": ["<extra_id_0>"]})])
def test_a_list_of_special_tokens_has_the_name_it_had(saved: Path, extra: list[str], becomes: dict[str, list[str]]) -> None:
    told = {"add_prefix_space": True, "extra_special_tokens": extra, "pad_token": "<pad>"}
    (saved / "tokenizer_config.json").write_text(json.dumps(told))
    readable(saved)
    assert json.loads((saved / "tokenizer_config.json").read_text()) == {"pad_token": "<pad>"} | becomes


def test_what_transformers_4_saved_is_left_alone(tiny: Path, tmp_path: Path) -> None:
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(tiny / name, tmp_path / name)
    (tmp_path / "tokenizer_2" / "spiece.model").write_bytes(b"of T5")
    (tmp_path / "tokenizer_2" / "tokenizer_config.json").write_text('{"add_prefix_space": true, "extra_special_tokens": {}}')
    before = tree(tmp_path)
    for name in ("tokenizer", "tokenizer_2"):
        readable(tmp_path / name)
    assert tree(tmp_path) == before


def test_the_index_names_the_class_that_needs_no_other_file(tmp_path: Path) -> None:
    path, named = tmp_path / "model_index.json", {"_class_name": "FluxPipeline", "tokenizer_2": ["transformers", "T5Tokenizer"]}
    (tmp_path / "tokenizer_2").mkdir()
    for file, wanted in (("spiece.model", "T5Tokenizer"), ("tokenizer.json", "T5TokenizerFast")):
        path.write_text(json.dumps(named))
        (tmp_path / "tokenizer_2" / file).write_text("")
        readable_index(path)
        assert json.loads(path.read_text())["tokenizer_2"] == ["transformers", wanted]
        (tmp_path / "tokenizer_2" / file).unlink()
