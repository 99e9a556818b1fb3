"""Costs that agree with what was measured on FLUX.1, and what each method is charged."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planned import ROOT

from safeflux.plan import Geometry, Plan, describe, make_plan
from safeflux.plan.cost import memory
from safeflux.policy import Choice, Policy, load_policy


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
