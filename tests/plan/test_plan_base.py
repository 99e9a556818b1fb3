"""The base model of a plan: found, read, refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from planned import REVISION, ROOT, with_model

from safeflux.errors import PlanError
from safeflux.plan import describe, make_plan
from safeflux.plan.base import directory_digest
from safeflux.policy import Policy, load_policy


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model_index.json", None, "holds no model_index.json; wanted a diffusers FluxPipeline"),
        ("model_index.json", '{"_class_name": "StableDiffusionPipeline"}', "says 'StableDiffusionPipeline'; wanted 'FluxPipeline'"),
        (
            "model_index.json",
            '{"_class_name": "Flux2Pipeline", "transformer": ["diffusers", "Flux2Transformer2DModel"]}',
            "says 'Flux2Pipeline'; wanted 'FluxPipeline'. It is a model of FLUX.2, with masks only: .* `safeflux list models`",
        ),
        (
            "model_index.json",
            '{"_class_name": "FluxFillPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}',
            "says 'FluxFillPipeline'; wanted 'FluxPipeline'. It is a model of FLUX.1, with masks only",
        ),
        ("model_index.json", "{", "cannot be read"),
        ("model_index.json", "[]", "holds a list; wanted a JSON object"),
        ("transformer/config.json", None, "config.json cannot be read"),
        ("transformer/config.json", '{"num_attention_heads": "many"}', "no sound heads"),
        ("generation_config.json", '{"height": 0}', "no sound image_size"),
    ],
)
def test_what_is_no_flux_is_refused(policy: Policy, tmp_path: Path, name: str, content: str | None, words: str) -> None:
    path = tmp_path / "model" / name
    if content is None:
        path.unlink()
    else:
        path.write_text(content, "utf-8")
    with pytest.raises(PlanError, match=words):
        make_plan(policy)


def test_the_digest_covers_names_and_bytes(policy: Policy, tmp_path: Path) -> None:
    model = tmp_path / "model"
    seen = {directory_digest(model)}
    (model / "transformer" / "weights.safetensors").write_text("weightz", "utf-8")
    seen.add(directory_digest(model))
    (model / "transformer" / "weights.safetensors").rename(model / "transformer" / "more.safetensors")
    seen.add(directory_digest(model))
    (model / "empty").touch()
    seen.add(directory_digest(model))
    assert len(seen) == 4
    (model / ".cache").mkdir()
    (model / ".cache" / "lock").touch()
    assert directory_digest(model) in seen, "what download tools leave behind is not the model"
    (model / "gone").symlink_to(model / "nowhere")
    with pytest.raises(PlanError, match="gone cannot be read"):
        directory_digest(model)


def test_a_hub_model_is_taken_from_the_cache(policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    there = tmp_path / "hub" / "models--acme--flux" / "snapshots" / REVISION
    there.parent.mkdir(parents=True)
    there.symlink_to(tmp_path / "model")  # the cache links files to blobs; a linked folder will do
    plan = make_plan(with_model(policy, "acme/flux", REVISION))
    assert (plan.model_dir, plan.notes, plan.geometry.double) == (str(there), (), 2)


@pytest.mark.parametrize(
    ("model", "steps", "tokens", "words"),
    [
        ("black-forest-labs/FLUX.1-schnell", 4, 256, "has to be downloaded"),
        ("black-forest-labs/FLUX.1-dev", 28, 512, "has to be downloaded"),
        ("acme/something", 28, 512, "taken to be built like FLUX.1-dev"),
    ],
)
def test_a_hub_model_can_be_planned_unseen(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, steps: int, tokens: int, words: str
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    plan = make_plan(with_model(policy, model, REVISION))
    assert (plan.model_dir, plan.model_digest, plan.steps, plan.max_sequence_length, plan.precision) == ("", "", steps, tokens, "bfloat16")
    assert words in plan.notes[0]
    assert words in describe(plan)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            "black-forest-labs/FLUX.2-dev",
            "pipeline is 'Flux2Pipeline'; wanted 'FluxPipeline'. It is a model of FLUX.2, with masks only",
        ),
        (
            "black-forest-labs/FLUX.1-Kontext-dev",
            "pipeline is 'FluxKontextPipeline'; wanted 'FluxPipeline'. It is a model of FLUX.1",
        ),
    ],
)
def test_a_hub_model_known_to_be_another_is_refused_unseen(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, words: str
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(PlanError, match=rf'base.model "{model}": its {words}'):
        make_plan(with_model(policy, model, REVISION))


@pytest.mark.parametrize("name", ["demo", "nudity", "violence", "art-style", "characters"])
def test_shipped_policies_can_be_planned(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    plan = make_plan(load_policy(ROOT / "policies" / f"{name}.yaml"))
    assert ("CPU" in plan.time) == (name == "demo")
    assert "fits none" not in plan.time
    assert describe(plan)
