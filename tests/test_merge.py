"""One policy of several releases."""

from __future__ import annotations

from pathlib import Path

import pytest

from safeflux.errors import PlanError, PolicyError
from safeflux.merge import merged_policy
from safeflux.policy import Policy, read_policy
from safeflux.policy.model import Choice, Limit

FIRST = """safeflux: 1
name: swords
version: "2"
seed: 5
base: {model: builtin:flux-mini}
concepts:
  - {name: sword, category: object, targets: [sword, blade], anchor: a shape, retain: [cross], detector: mini}
retain: [tree, house]
method: {mask: {updates: 50}}
limits: {detection: 0.10, attack_success: {at_most: 0.30, confidence: 0.9}, retained: 0.80}
audit: {attacks: [none], images: 60}
signing: {key: (withheld)}
"""
SECOND = """safeflux: 1
name: neon
version: "1"
base: {model: builtin:flux-mini}
concepts:
  - {name: neon, category: style, detector: mini}
  - {name: sword, category: object, targets: [sword, blade], anchor: a shape, retain: [cross], detector: mini}
retain: [house, boat]
method: mask
limits: {detection: {at_most: 0.2, confidence: 0.99}, attack_success: 0.25, retained: {at_least: 0.9}}
"""


@pytest.fixture
def releases(tmp_path: Path) -> tuple[Path, Path]:
    return lock(tmp_path / "a", FIRST), lock(tmp_path / "b", SECOND)


def lock(directory: Path, policy: str) -> Path:
    directory.mkdir(exist_ok=True)
    block = "".join(f"  {line}\n" for line in policy.splitlines())
    (directory / "policy.lock.yaml").write_text(f"safeflux_lock: 1\nwithheld: []\npolicy: |2+\n{block}")
    return directory


def read(text: str) -> Policy:
    return read_policy(text.encode(), None)


def test_what_both_erase_is_erased_and_what_both_keep_is_kept(releases: tuple[Path, Path]) -> None:
    policy = read(merged_policy(releases))
    assert (policy.name, policy.version) == ("swords-neon", "1.0")
    assert [concept.name for concept in policy.concepts] == ["sword", "neon"]
    assert policy.retain == ("tree", "house", "boat")
    assert policy.base.merges == tuple(str(one) for one in releases)


def test_the_stricter_limit_holds_with_the_higher_confidence(releases: tuple[Path, Path]) -> None:
    limits = read(merged_policy(releases)).limits
    assert limits.detection == Limit(0.10, 0.99)
    assert limits.attack_success == Limit(0.25, 0.95)
    assert limits.retained == Limit(0.9, 0.95)


def test_all_else_is_the_firsts_without_its_key(releases: tuple[Path, Path]) -> None:
    policy = read(merged_policy(releases, name="both", version="3"))
    assert (policy.name, policy.version, policy.seed) == ("both", "3", 5)
    assert policy.method == Choice("mask", {"updates": 50})
    assert policy.audit.images == 60
    assert policy.signing.key is None
    assert merged_policy(releases).startswith("# Made of swords 2, neon 1.")


def test_the_base_must_be_known_and_one(releases: tuple[Path, Path]) -> None:
    lock(releases[1], SECOND.replace("builtin:flux-mini", "(withheld)"))
    with pytest.raises(PlanError, match=r"b/policy.lock.yaml does not say in which directory the base model is; name it with --base"):
        merged_policy(releases)
    assert read(merged_policy(releases, base="./model")).base.model == "./model"
    lock(releases[1], SECOND.replace("builtin:flux-mini", "./other"))
    with pytest.raises(PlanError, match=r"were made from builtin:flux-mini and ./other; wanted one base model"):
        merged_policy(releases)


def test_a_hub_models_revision_stays(tmp_path: Path) -> None:
    pinned = FIRST.replace("builtin:flux-mini", f"some/flux, revision: {'a' * 40}")
    releases = lock(tmp_path / "a", pinned), lock(tmp_path / "b", pinned.replace("name: swords", "name: more"))
    for base in (None, "some/flux"):
        assert read(merged_policy(releases, base=base)).base.revision == "a" * 40
    assert read(merged_policy(releases, base="./model")).base.revision is None


def test_a_concept_is_one_thing(releases: tuple[Path, Path]) -> None:
    lock(releases[1], SECOND.replace("[sword, blade]", "[sword]"))
    with pytest.raises(PlanError, match=r"b/policy.lock.yaml describes sword otherwise"):
        merged_policy(releases)


def test_a_word_that_one_erases_and_another_keeps_is_refused_by_the_policys_own_rules(releases: tuple[Path, Path]) -> None:
    lock(releases[1], SECOND.replace("[house, boat]", "[blade]"))
    with pytest.raises(PolicyError, match='came "blade", which concepts'):
        read(merged_policy(releases))


@pytest.mark.parametrize("text", [None, "", "policy: 3\n", "policy: |2+\n  a: 1\n", "{"])
def test_what_is_no_release_is_named(releases: tuple[Path, Path], text: str | None) -> None:
    path = releases[1] / "policy.lock.yaml"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(PlanError, match=r"b/policy.lock.yaml .*wanted the directory of a release"):
        merged_policy(releases)


def test_one_release_cannot_be_merged(releases: tuple[Path, Path]) -> None:
    with pytest.raises(PlanError, match="came 1 release; wanted two or more"):
        merged_policy(releases[:1])
