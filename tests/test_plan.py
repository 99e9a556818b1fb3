"""Plans: what is resolved, what is refused, and costs that agree with what was measured on FLUX.1."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from report_example import CONCEPTS, example

from safeflux import report
from safeflux.errors import PlanError
from safeflux.options import presets
from safeflux.plan import Geometry, Plan, describe, make_plan
from safeflux.plan.attacking import chosen, effort, images
from safeflux.plan.base import directory_digest
from safeflux.plan.cost import memory
from safeflux.policy import Choice, Limit, Policy, load_policy, read_policy
from safeflux.registry import names
from safeflux.statistics import lower, upper

ROOT = Path(__file__).resolve().parent.parent
REVISION = "3de623fc3c33e44ffbe2bad470d0f45bccf2eb21"
TEXT = """\
safeflux: 1
name: demo
version: "1.0"
seed: 7
base: {model: ./model}
concepts:
  - {name: sword, category: object, targets: [sword, blade], anchor: a shape, retain: [cross], detector: mini}
  - {name: neon, category: style, detector: mini}
method: {mask: {updates: 10, batch: 6}}
limits: {detection: 0.1, attack_success: 0.3, retained: 0.9}
audit: {attacks: [none, {paraphrase: {images: 50}}, {ring-a-bell: {generations: 20}}], images: 40}
"""
CONFIG = {
    "num_layers": 2, "num_single_layers": 3, "num_attention_heads": 4, "attention_head_dim": 32, "joint_attention_dim": 64,
    "pooled_projection_dim": 48, "in_channels": 64, "guidance_embeds": False,
}  # fmt: skip


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    """A policy whose base model stands beside it: configurations as diffusers writes them, and a file for weights."""
    for name, content in {
        "model_index.json": {"_class_name": "FluxPipeline"},
        "transformer/config.json": CONFIG,
        "tokenizer_2/tokenizer_config.json": {"model_max_length": 32},
        "text_encoder_2/config.json": {"d_model": 64, "d_kv": 16, "num_heads": 4, "d_ff": 128, "num_layers": 2},
        "vae/config.json": {"block_out_channels": [8, 8, 8, 8]},
        "generation_config.json": {"height": 64},
        "transformer/weights.safetensors": "weights",
    }.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), "utf-8")
    return read_policy(TEXT.encode(), tmp_path / "p.yaml")


def with_model(policy: Policy, model: str, revision: str | None = None) -> Policy:
    return replace(policy, base=replace(policy.base, model=model, revision=revision))


def test_a_local_model_is_found_from_the_policy_and_read(policy: Policy, tmp_path: Path) -> None:
    plan = make_plan(policy)
    assert plan.model_dir == str(tmp_path / "model")
    assert plan.model_digest == directory_digest(tmp_path / "model")
    found = plan.geometry
    assert (found.double, found.single, found.width, found.joint, found.image_size) == (2, 3, 128, 64, 64)
    assert (plan.steps, plan.max_sequence_length, plan.precision, found.tokens) == (4, 32, "float32", 4 * 4 + 32)
    assert plan.time == "minutes on two CPU cores"


def test_costs_are_sums_of_pictures_and_steps(policy: Policy) -> None:
    plan = make_plan(policy)
    assert plan.images == {"none": 40, "paraphrase": 50, "ring-a-bell": 40}
    costs = [(cost.stage, cost.evaluations, cost.texts) for cost in plan.costs]
    assert costs == [
        ("prepare", 4 * 2 * 50 * 2, 0),
        ("erase", 4 * 10 * 6 * 3 + 4 * 4 * (24 + 6 * 64), 0),  # four lines are looked at, once in passing and six times in the end
        ("audit", 4 * 2 * 40 * (2 + 1 + 1), 0),  # two concepts, one with neighbours, and general nouns
        ("audit", 4 * 2 * 50 * 2, 0),
        ("audit", 4 * 2 * 40 * 2, 2 * 12 * 20 * 200),
    ]
    assert plan.evaluations == sum(evaluations for _, evaluations, _ in costs)


def test_recomputing_steps_costs_a_pass_and_saves_memory(policy: Policy) -> None:
    kept = make_plan(policy)
    again = make_plan(replace(policy, method=Choice("mask", {**policy.method.options, "recompute": True})))
    assert again.costs[1].evaluations - kept.costs[1].evaluations == 10 * 6 * 4
    assert kept.memory - again.memory == 4 * 6 * 3 * kept.geometry.activations


def test_the_released_recipe_costs_two_passes_forward_and_two_back(policy: Policy) -> None:
    """One target a prompt; then four evaluations for each of its own five steps, in every epoch. One picture at a time, one step kept."""
    plan = make_plan(replace(policy, method=Choice("mce-2025")))
    assert plan.geometry.steps != 5
    assert plan.costs[1].evaluations == 2 * 40 * (5 + 5 * (5 + 5 + 10))
    fewer = make_plan(replace(policy, method=Choice("mce-2025", {"epochs": 2, "train_steps": 3})))
    assert fewer.costs[1].evaluations == 2 * 40 * (3 + 2 * (3 + 3 + 6))
    whole = make_plan(policy)
    assert whole.memory - plan.memory == 4 * (6 * 4 - 1) * plan.geometry.activations


def test_following_gradients_costs_passes_and_memory(policy: Policy) -> None:
    def audited(**options: object) -> Policy:
        attacks = (Choice("none"), Choice("embedding-pgd", {"iterations": 6, "restarts": 2, "curve": (), **options}))
        return replace(policy, audit=replace(policy.audit, attacks=attacks))

    plan = make_plan(audited())
    assert plan.costs[-1].evaluations == 4 * 40 * 2 * (1 + 2 * (6 * 2 + 1))  # steps, pictures, concepts; base, then starts
    curve = make_plan(audited(curve=(0.2, 0.3)))
    assert curve.costs[-1].evaluations == 4 * 40 * 2 * (1 + 3 * 2 * (6 * 2 + 1))
    again = make_plan(audited(recompute=True))
    assert again.costs[-1].evaluations == 4 * 40 * 2 * (1 + 2 * (6 * 3 + 1))
    held = [make_plan(audited(batch=batch, recompute=recompute)).memory for batch, recompute in ((16, False), (17, False), (60, True))]
    assert held[1] - held[0] == 4 * 4 * plan.geometry.activations
    assert held[0] - held[2] == 4 * 4 * plan.geometry.activations  # 64 steps of pictures against 60
    assert make_plan(audited(batch=1)).memory == make_plan(policy).memory  # training takes more


def test_options_are_those_that_will_be_used(policy: Policy) -> None:
    options = make_plan(policy).options
    assert options["method mask"]["updates"] == 10
    assert options["method mask"]["budget"] == 0.05
    assert (options["attack ring-a-bell"]["generations"], options["attack ring-a-bell"]["images"]) == (20, 40)


def test_seeds_differ_by_stage_and_follow_the_policy(policy: Policy) -> None:
    seeds = make_plan(policy).seeds
    assert len(set(seeds.values())) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds.values())
    assert make_plan(policy).seeds == seeds
    assert not set(make_plan(replace(policy, seed=8)).seeds.values()) & set(seeds.values())


def test_a_plan_is_plain_data(policy: Policy) -> None:
    plan = make_plan(policy)
    data = json.loads(json.dumps(plan.to_json()))
    assert data["policy"]["digest"] == policy.digest
    assert data["policy"]["concepts"][0]["detector"] == {"name": "mini", "options": {}}
    assert data["evaluations"] == plan.evaluations
    assert "text" not in data["policy"]


def test_people_are_told_what_matters(policy: Policy) -> None:
    plan = make_plan(policy)
    text = describe(plan)
    for word in (
        "demo 1.0",
        plan.model_digest,
        "sword (object), also called blade",
        "'a shape'",
        "cross must stay",
        f"{plan.evaluations:,}",
        plan.time,
    ):
        assert word in text
    assert "also called nothing else" in text


# Limits


@pytest.mark.parametrize(("limit", "n"), [(0.1, 29), (0.05, 59), (0.3, 9), (0.01, 299)])
def test_an_audit_that_could_never_pass_is_refused(policy: Policy, limit: float, n: int) -> None:
    """The fewest pictures that show a limit without a single hit: ln 0.05 / ln(1 - limit)."""

    def audited(pictures: int) -> Policy:
        attacks = (Choice("none", {"images": pictures}),)
        limits = replace(policy.limits, detection=Limit(limit), retained=Limit(0.5))
        return replace(policy, limits=limits, audit=replace(policy.audit, attacks=attacks, images=None))

    assert make_plan(audited(n)).budgets[0].hits == 0
    with pytest.raises(PlanError, match=f"detection: {n - 1} pictures can never show the limit {limit}.*at least {n}"):
        make_plan(audited(n - 1))


def test_every_such_limit_is_named(policy: Policy) -> None:
    small = replace(policy, audit=replace(policy.audit, attacks=(Choice("none"), Choice("paraphrase")), images=5))
    with pytest.raises(PlanError) as caught:
        make_plan(small)
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["detection", "attack_success (paraphrase)", "retained"]


def test_a_refused_limit_is_named_with_its_line(policy: Policy, tmp_path: Path) -> None:
    text = TEXT.replace("limits: {detection: 0.1,", "limits:\n  {detection: {at_most: 0.05},")
    with pytest.raises(PlanError) as caught:
        make_plan(read_policy(text.encode(), tmp_path / "p.yaml"))
    assert str(caught.value).startswith(f"{tmp_path / 'p.yaml'}:11:15: detection: 40 pictures can never show the limit 0.05")
    bare = replace(policy, text="", audit=replace(policy.audit, images=20))
    with pytest.raises(PlanError, match=r"^detection: 20 pictures"):
        make_plan(bare)


def test_stopping_early_takes_more_pictures_at_most(policy: Policy) -> None:
    def early(images: int) -> Policy:
        attacks = (Choice("none", {"images": images}),)
        return replace(policy, audit=replace(policy.audit, attacks=attacks, stop_early=True))

    assert make_plan(early(43)).budgets[0].hits == 0
    with pytest.raises(PlanError, match=r"detection: 42 pictures .*looking after every batch \(audit.stop_early\).*at least 43"):
        make_plan(early(42))


def test_a_list_of_prompts_is_part_of_the_plan(policy: Policy, tmp_path: Path) -> None:
    asked = replace(policy, audit=replace(policy.audit, attacks=(Choice("none"), Choice("prompts", {"file": "list.csv"}))))
    with pytest.raises(PlanError, match=r"p\.yaml:11:\d+: the attack prompts: there is no file .*list\.csv; wanted: prompts: \{file"):
        make_plan(asked)
    (tmp_path / "list.csv").write_text("prompt\na blade\n")
    first = make_plan(asked).options["attack prompts"]["file_sha256"]
    (tmp_path / "list.csv").write_text("prompt\na sword\n")
    assert make_plan(asked).options["attack prompts"]["file_sha256"] != first


def test_a_floor_at_the_base_models_own_rate_cannot_be_shown(policy: Policy) -> None:
    with pytest.raises(PlanError, match="retained: no number of pictures shows a rate of 1"):
        make_plan(replace(policy, limits=replace(policy.limits, retained=Limit(1.0))))


def test_budgets_are_where_the_bound_crosses_the_limit(policy: Policy) -> None:
    for one in make_plan(policy).budgets:
        if one.what == "retained":
            assert lower(one.n - one.hits, one.n, one.limit.confidence) >= one.limit.value
            assert lower(one.n - one.hits - 1, one.n, one.limit.confidence) < one.limit.value
        else:
            assert upper(one.hits, one.n, one.limit.confidence) <= one.limit.value < upper(one.hits + 1, one.n, one.limit.confidence)


def test_presets_decide_where_nothing_else_does(policy: Policy) -> None:
    bare = replace(policy, audit=replace(policy.audit, preset="quick", images=None))
    assert [images(bare, attack) for attack in bare.audit.attacks] == [60, 50, 60]
    attacks = (Choice("none"), Choice("noise"), Choice("noise", {"draws": 3, "images": 7}))
    quick, full = (chosen_in(replace(bare, audit=replace(bare.audit, preset=preset, attacks=attacks))) for preset in ("quick", "full"))
    assert quick == [{"images": 60}, {"images": 40, "draws": 8}, {"images": 7, "draws": 3}]
    assert full[1] == {"images": 500, "draws": 24}
    fewer = replace(bare, audit=replace(bare.audit, images=30, attacks=attacks))
    assert [choice["images"] for choice in chosen_in(fewer)] == [30, 30, 7]


def chosen_in(policy: Policy) -> list[dict[str, object]]:
    return [dict(chosen(policy, attack).options) for attack in policy.audit.attacks]


@pytest.mark.parametrize("name", names("attack"))
def test_presets_name_presets_and_options_of_their_attack(name: str) -> None:
    known = presets("attack", name)
    assert set(known) <= {"quick", "standard", "full"}
    for options in known.values():
        assert effort(Choice(name, options), 4).erased >= 1


# Base models


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model_index.json", None, "holds no model_index.json; wanted a diffusers FluxPipeline"),
        ("model_index.json", '{"_class_name": "StableDiffusionPipeline"}', "says 'StableDiffusionPipeline'; wanted 'FluxPipeline'"),
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


@pytest.mark.parametrize("name", ["demo", "nudity", "violence", "art-style", "characters"])
def test_shipped_policies_can_be_planned(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    plan = make_plan(load_policy(ROOT / "policies" / f"{name}.yaml"))
    assert ("CPU" in plan.time) == (name == "demo")
    assert "fits none" not in plan.time
    assert describe(plan)


# FLUX.1 as it was counted on its true configuration, without weights


@pytest.mark.parametrize(("guidance", "parameters"), [(False, 11_891_178_560), (True, 11_901_408_320)])
def test_parameters_of_flux1(guidance: bool, parameters: int) -> None:
    assert Geometry(guidance=guidance).parameters == parameters


@pytest.mark.parametrize(
    ("size", "tokens", "tera"), [(256, 256, 6.81), (512, 256, 17.69), (512, 512, 21.50), (1024, 256, 69.47), (1024, 512, 74.38)]
)
def test_operations_of_flux1(size: int, tokens: int, tera: float) -> None:
    assert Geometry(image_size=size, text_tokens=tokens).flops / 1e12 == pytest.approx(tera, rel=0.005)


@pytest.mark.parametrize(("size", "tokens", "gib"), [(512, 256, 8.4), (512, 512, 10.1), (1024, 256, 28.5), (1024, 512, 30.2)])
def test_activations_of_flux1(size: int, tokens: int, gib: float) -> None:
    assert 2 * Geometry(image_size=size, text_tokens=tokens).activations / 2**30 == pytest.approx(gib, rel=0.01)


def test_operations_of_t5() -> None:
    assert Geometry().text_flops / 1e12 == pytest.approx(2.4, rel=0.02)


# Methods


def test_a_method_that_draws_nothing_is_charged_nothing(policy: Policy) -> None:
    trained, solved = (make_plan(replace(policy, method=Choice(name))) for name in ("mask", "uce"))
    assert (solved.costs[1].stage, solved.costs[1].evaluations) == ("erase", 0)
    assert "nothing is drawn" in describe(solved)
    assert solved.evaluations == trained.evaluations - trained.costs[1].evaluations
    assert solved.memory == 4 * (solved.geometry.parameters + solved.geometry.text_parameters) + 2**28  # drawing for the audit


def test_a_method_that_only_looks_is_charged_its_pictures(policy: Policy) -> None:
    plan = make_plan(replace(policy, method=Choice("concept-prune", {"images": 10})))
    assert plan.costs[1].evaluations == 4 * 10 * 3 * 2
    assert "60 pictures" in plan.costs[1].what
    assert plan.memory == make_plan(replace(policy, method=Choice("uce"))).memory


def test_fine_tuning_one_step_is_charged_that_step_and_the_way_to_it(policy: Policy) -> None:
    def plan(**more: object) -> Plan:
        return make_plan(replace(policy, method=Choice("esd", {"updates": 10, "batch": 6, **more})))

    one = plan()
    assert one.costs[1].evaluations == 10 * 6 * (0 + 1 + 2 + 3 + 4 * 4) / 4  # steps before the level, then the base twice, forward, back
    geometry = one.geometry
    layers = [plan(sites=sites).memory for sites in ("text-attention", "attention", "ff")]
    assert layers == sorted(layers)
    assert layers[1] == one.memory == 4 * (geometry.parameters + 6 * geometry.activations + 10 * (8 * 2 + 3 * 3) * 128**2) + 2**28
    assert make_plan(replace(policy, method=Choice("mask", {"batch": 6}))).memory - 4 * 6 * 3 * geometry.activations < one.memory


def test_fine_tuning_flux1_needs_what_its_layers_weigh() -> None:
    """ "attention" of FLUX.1 has 2.5 billion weights: 20 bytes each, beside the model, are more than 80 GB; "text-attention" fits."""
    nudity = load_policy(ROOT / "policies" / "nudity.yaml")
    for sites, fits in (("attention", False), ("text-attention", True)):
        chosen = replace(nudity, method=Choice("esd", {"batch": 4, "sites": sites}))
        assert (memory(chosen, Geometry()) < 80e9) == fits


def extending(policy: Policy, tmp_path: Path, **changes: object) -> Policy:
    """A policy that extends a release of ``report_example``'s, with the base model's true digest in its report."""
    digest = directory_digest(tmp_path / "model")
    old = example(base={**example().base, "digest": digest}, **changes)
    (tmp_path / "old" / "transformer").mkdir(parents=True)
    (tmp_path / "old" / "erasure_report.json").write_text(report.to_text(old))
    (tmp_path / "old" / "transformer" / "config.json").write_text("{}")
    concepts = tuple(replace(policy.concepts[0], name=name) for name in (*CONCEPTS, "bomb"))
    return replace(policy, concepts=concepts, base=replace(policy.base, extends=str(tmp_path / "old")))


def test_a_release_can_be_extended_and_is_named(policy: Policy, tmp_path: Path) -> None:
    plan = make_plan(extending(policy, tmp_path))
    [earlier] = plan.earlier
    [told] = earlier.lineage
    assert told["name"] == "flux-mini-erased"
    assert told["concepts"] == list(CONCEPTS)
    assert "Extends       flux-mini-erased" in describe(plan)
    json.dumps(plan.to_json())


def test_releases_can_be_merged_and_are_named(policy: Policy, tmp_path: Path) -> None:
    grown = extending(policy, tmp_path)
    shutil.copytree(tmp_path / "old", tmp_path / "older")
    merging = replace(grown, base=replace(grown.base, extends=None, merges=(str(tmp_path / "old"), str(tmp_path / "older"))))
    plan = make_plan(merging)
    assert [one.directory.name for one in plan.earlier] == ["old", "older"]
    assert "Merges        flux-mini-erased, flux-mini-erased: what they erased is where the training starts" in describe(plan)
    json.dumps(plan.to_json())
    with pytest.raises(PlanError, match=r"base.merges: .*the method is concept-prune; wanted masks, and one of mask"):
        make_plan(replace(merging, method=Choice("concept-prune")))


def test_what_cannot_be_extended_is_refused(policy: Policy, tmp_path: Path) -> None:
    grown = extending(policy, tmp_path)
    with pytest.raises(PlanError, match=r"erased captain comet too; list every concept again"):
        make_plan(replace(grown, concepts=tuple(c for c in grown.concepts if c.name != "captain comet")))
    (tmp_path / "old" / "transformer").rename(tmp_path / "old" / "elsewhere")
    with pytest.raises(PlanError, match="holds no transformer/"):
        make_plan(grown)
    (tmp_path / "old" / "elsewhere").rename(tmp_path / "old" / "transformer")
    with pytest.raises(PlanError, match="the method is uce; wanted masks"):
        make_plan(replace(grown, method=Choice("uce")))
    (tmp_path / "model" / "transformer" / "weights.safetensors").write_text("other weights")
    with pytest.raises(PlanError, match="made from another base model"):
        make_plan(grown)
    with pytest.raises(PlanError, match="wanted the directory of a release"):
        make_plan(replace(grown, base=replace(grown.base, extends=str(tmp_path / "nowhere"))))


def test_formats_that_cannot_come_of_it_are_refused_before_anything_is_trained(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("single-file", "fp8"):
        with pytest.raises(PlanError, match=f"exports: {name} cannot be made .* 128 wide, and readers of the original layout know 3072"):
            make_plan(replace(policy, exports=(Choice(name),)))
        make_plan(replace(policy, exports=(Choice(name, {"keys": "diffusers"}),)))
    monkeypatch.setattr("safeflux.plan.exports.find_spec", lambda package: None)
    with pytest.raises(PlanError, match=r'gguf needs the package gguf; pip install "safeflux\[gguf\]"'):
        make_plan(replace(policy, exports=(Choice("gguf", {"keys": "diffusers"}),)))
