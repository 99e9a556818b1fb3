"""Plans: what is resolved and told, and what it costs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from safeflux.plan import describe, make_plan
from safeflux.plan.base import directory_digest
from safeflux.policy import Choice, Policy


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
        ("prepare", 4 * 2 * 100 * 2, 0),
        # Three lines of concepts (one alone and beside others) and two of what must stay are looked at, once, and six times in the end
        # One picture in six is attacked, so three attacks take a step in every update; for seven steps two pictures are drawn first.
        # Wherever anything is looked at for sure, there are 48 more attacks, on two concepts
        ("erase", 4 * 10 * 6 * 3 + 4 * (3 * 24 + 3 * 48 + 6 * 6 * 64) + 4 * (10 * 3 * 2 * 8 // 7 + 6 * 48 * 2 * 8), 0),
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
