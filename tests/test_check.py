"""The check passes what is the masked model, and nothing that is not: each way to differ is tried."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_bake import random_mask
from training import SWORD

from safeflux import check
from safeflux.bake import bake, in_force
from safeflux.check import Request
from safeflux.edits import load_edit, save_edit
from safeflux.errors import ModelError, StageError
from safeflux.exporters.diffusers import diffusers
from safeflux.models.flux1 import Flux1
from safeflux.policy import Limit

PASSED = [{"concept": "sword", "attack": "none", "metric": "detection", "status": "passed"}]
LIMIT = Limit(0.2)
WEIGHTS = Path("transformer") / "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def request_(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Request:
    """A tiny FLUX under a random mask, exported, and what its masked base draws."""
    work = tmp_path_factory.mktemp("checked")
    save_edit(random_mask(tiny, closed=0.3), work / "edit.safetensors")
    edit = load_edit(work / "edit.safetensors")
    bake(tiny, edit, work / "baked")
    diffusers(work / "baked", work / "out", base=tiny)
    base, texts = Flux1.load(tiny), check.compared([SWORD], ["cat", "tree"], 5)
    with in_force(base, edit):
        check.write_reference(base, texts, work / "reference.safetensors", seed=5, steps=2)
    return Request(
        "diffusers", str(work / "out"), str(work / "out"), str(tiny), str(work / "edit.safetensors"), str(work / "reference.safetensors"),
        texts, [json.loads(json.dumps(asdict(SWORD)))], 5, 2, "float32",
    )  # fmt: skip


def test_what_is_compared_is_about_concepts_and_what_must_stay() -> None:
    texts = check.compared([SWORD] * 5, ["cat", "tree"], 5)
    assert len(texts) == check.COMPARED
    assert "sword" in texts[0]
    assert texts[-1] == "a picture of a cat"


def test_another_process_finds_the_masked_model_in_the_export(request_: Request) -> None:
    found = check.check(request_, PASSED, LIMIT)
    assert found.keys() == {"format", "consumer", "weights_error", "relative_error", "tolerance", "concepts"}
    assert found["weights_error"] == 0
    assert found["relative_error"] <= found["tolerance"] == 1e-5
    assert "from_pretrained, diffusers 0." in found["consumer"]
    assert [(one["concept"], one["n"]) for one in found["concepts"]] == [("sword", check.PICTURES)]


def altered(request_: Request, out: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Request:
    """The same request for a copy of the export whose weights were changed."""
    shutil.copytree(request_.exported, out)
    tensors = load_file(out / WEIGHTS)
    change(tensors)
    save_file(tensors, out / WEIGHTS)
    return replace(request_, exported=str(out))


def _nudge(tensors: dict[str, torch.Tensor]) -> None:
    tensors["proj_out.bias"][0] += 1e-7  # far below what latents would show


def _revive(tensors: dict[str, torch.Tensor]) -> None:
    weight = tensors["transformer_blocks.0.ff.net.0.proj.weight"]
    weight[(weight == 0).all(dim=1).nonzero()[0]] = 0.1


def _blow_up(tensors: dict[str, torch.Tensor]) -> None:
    tensors["proj_out.weight"].fill_(3e38)


@pytest.mark.parametrize(
    ("change", "says"),
    [(_nudge, r"weights are off by .* bit for bit"), (_revive, "32 of its weights .* are not zero"), (_blow_up, "not finite")],
)
def test_weights_that_differ_are_refused(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, torch.Tensor]], None], says: str
) -> None:
    monkeypatch.setattr(check, "fresh", check.answer)
    with pytest.raises(StageError, match=rf"diffusers, loaded again by FluxPipeline[^$]*{says}"):
        check.check(altered(request_, tmp_path / "out", change), PASSED, LIMIT)


def test_a_weight_that_is_no_number_is_named(request_: Request, tmp_path: Path) -> None:
    def poison(tensors: dict[str, torch.Tensor]) -> None:
        tensors["proj_out.bias"][0] = torch.nan

    with pytest.raises(ModelError, match=r"proj_out\.bias holds numbers that are not finite"):
        check.answer(altered(request_, tmp_path / "out", poison))


def test_the_base_is_not_taken_for_the_masked_model(request_: Request, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "fresh", check.answer)
    with pytest.raises(StageError, match="latents are off"):
        check.check(replace(request_, exported=str(tiny)), PASSED, LIMIT)


def test_without_an_edit_the_export_is_held_against_the_release(request_: Request, tiny: Path) -> None:
    own = replace(request_, base=None, edit=None)
    assert check.answer(own)["weights_error"] == 0
    assert check.answer(replace(own, exported=str(tiny)))["weights_error"] > 0


def test_weights_of_another_shape_or_name_are_refused(request_: Request, tmp_path: Path) -> None:
    from tiny import make_tiny, transformer

    other = make_tiny(tmp_path, model=transformer(blocks=1))
    with pytest.raises(ModelError, match="is only in one of"):
        check.answer(replace(request_, exported=str(other)))


@pytest.mark.parametrize(("k", "status", "fails"), [(3, "passed", False), (4, "passed", True), (6, "failed", False)])
def test_an_export_that_draws_what_the_audit_found_gone_is_refused(
    request_: Request, monkeypatch: pytest.MonkeyPatch, k: int, status: str, fails: bool
) -> None:
    """3 of 6 can still be chance under a limit of 20%, 4 of 6 cannot; where the audit itself found it there, the verdict says so."""
    said: dict[str, Any] = {
        "consumer": "x", "exact": True, "finite": True, "tolerance": 1e-5, "relative_error": 0.0, "weights_error": 0.0, "nonzero": 0,
        "concepts": [{"concept": "sword", "k": k, "n": 6}],
    }  # fmt: skip
    monkeypatch.setattr(check, "fresh", lambda request: said)
    findings = [PASSED[0] | {"status": status}]
    if not fails:
        assert check.check(request_, findings, LIMIT)["concepts"] == said["concepts"]
        return
    with pytest.raises(StageError, match=r"draws sword in 4 of 6 pictures; the policy allows 20\.0%"):
        check.check(request_, findings, LIMIT)


def test_what_cannot_be_loaded_again_is_said_in_the_other_processs_words(request_: Request, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"diffusers in .*nothing cannot be loaded again: .*no model_index\.json"):
        check.check(replace(request_, exported=str(tmp_path / "nothing")), PASSED, LIMIT)
