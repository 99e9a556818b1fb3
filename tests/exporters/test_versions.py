"""A release of a base that another version saved loads in both; nothing of the base was changed in between."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from older import DONE, LENGTH, OLDER, TEXTS, WITHOUT, run
from safetensors.torch import load_file
from versions import EMBEDDINGS, LATENTS, ROWS, Row, Versions

from safeflux.exporters.diffusers import preserved
from safeflux.files import tree
from safeflux.models.older_tokenizers import readable, readable_index
from safeflux.plan.older import notes_of
from safeflux.types import KEPT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not OLDER, reason=WITHOUT)]


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Versions:
    return Versions(tmp_path_factory.mktemp("versions"), str(OLDER))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.saved}/{row.layout}/{row.who}")
def test_it_comes_out_as_the_document_says(row: Row, versions: Versions) -> None:
    assert row.run(versions) == row.says


def test_the_plan_tells_of_bases_that_the_older_versions_do_not_read(versions: Versions) -> None:
    told = {name: [note.split(";")[0] for note in notes_of(base)] for name, base in versions.bases.items()}
    assert told == {
        "4": [],
        "4, no prefix": [],
        "5": ["transformers 4 does not read the base's tokenizer and tokenizer_2, which transformers 5 saved"],
        "5, own CLIP": ["transformers 4 finds no weights of the base's text_encoder and goes on with random ones"],
    }


@pytest.mark.parametrize("layout", ["dense", "removed"])
def test_only_the_transformer_and_the_index_are_not_the_bases(versions: Versions, layout: str) -> None:
    for name, base in versions.bases.items():
        before, after = tree(base), tree(versions.places[name, layout])
        changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        assert {path.split("/")[0] for path in changed} <= {"transformer", "model_index.json", KEPT}
        rest = {path for path in before if path.split("/")[0] not in ("transformer", "model_index.json")}
        assert preserved(base).keys() == rest
        assert len(rest) > 15


def test_what_was_erased_shows_in_what_is_drawn(versions: Versions) -> None:
    """The control: another transformer, or other texts, would have been noticed."""
    for name in ("4", "5"):
        assert versions.apart((name, "dense", "current"), (name, "base", "current")) > 100 * LATENTS
    assert versions.apart(("4", "dense", "older"), ("4", "base", "older")) > 100 * LATENTS
    assert versions.apart(("5", "base", "current"), ("4", "base", "current"), "sequence") <= EMBEDDINGS


def test_text_encoders_are_the_same_whoever_saved_and_whoever_loads_them(versions: Versions, tmp_path: Path) -> None:
    """Also those that transformers 5 saved, whose tokenizers transformers 4 does not read."""
    found = []
    for python in (str(OLDER), sys.executable):
        for name in ("4", "5"):
            out = tmp_path / f"{len(found)}.safetensors"
            assert run(python, ("encode", str(versions.bases[name]), str(out))) == [DONE]
            found.append(load_file(out))
    for what in ("sequence", "pooled"):
        assert all((one[what] - found[0][what]).abs().max() <= EMBEDDINGS * found[0][what].abs().max() for one in found[1:])


def test_tokenizers_of_an_onnx_export_are_read_by_the_older_versions_whoever_saved_them(versions: Versions, tmp_path: Path) -> None:
    """Which optimum needs. The control is the row of such a base, whose tokenizers as they are fail there."""
    found = []
    for name, python in (("4", sys.executable), ("5", sys.executable), ("4", str(OLDER)), ("5", str(OLDER))):
        place = tmp_path / str(len(found))
        for part in ("tokenizer", "tokenizer_2"):
            shutil.copytree(versions.bases[name] / part, place / part)
            readable(place / part)
        shutil.copyfile(versions.bases[name] / "model_index.json", place / "model_index.json")
        readable_index(place / "model_index.json")
        assert json.loads((place / "model_index.json").read_text())["tokenizer_2"] == ["transformers", "T5TokenizerFast"]
        assert run(python, ("tokens", str(place), str(tmp_path / "out.json"))) == [DONE]
        found.append(json.loads((tmp_path / "out.json").read_text()))
    assert found[1:] == found[:1] * 3
    assert tree(tmp_path / "0" / "tokenizer") == tree(versions.bases["4"] / "tokenizer")


def test_an_onnx_export_of_a_base_that_transformers_5_saved_is_drawn_by_optimum(versions: Versions, tmp_path: Path) -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason='needs the extra "onnx"')
    from safeflux.exporters.onnx import onnx

    (tmp_path / "onnx").mkdir()
    onnx(versions.places["5", "dense"], tmp_path / "onnx", base=versions.bases["5"])
    how = {"height": 32, "width": 32, "num_inference_steps": 4, "max_sequence_length": LENGTH}
    out = tmp_path / "drawn.safetensors"
    assert run(str(OLDER), ("draw_onnx", str(tmp_path / "onnx"), str(out), json.dumps(TEXTS), json.dumps(how))) == [DONE]
    wanted = versions.drawn["5", "dense", "current"]
    assert not isinstance(wanted, str)
    assert (load_file(out)["latent"] - wanted["latents"]).abs().max() <= LATENTS * wanted["latents"].abs().max()
