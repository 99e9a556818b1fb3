"""What a plan says of the audit: limits that could never be shown, and how hard attacks look."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from planned import TEXT

from safeflux.errors import PlanError
from safeflux.options import presets
from safeflux.plan import make_plan
from safeflux.plan.attacking import chosen, effort, images
from safeflux.policy import Choice, Limit, Policy, read_policy
from safeflux.registry import names
from safeflux.statistics import lower, upper


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
