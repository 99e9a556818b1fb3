"""Names resolve to functions, third parties can add names, and nobody can take one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from safeflux import options, registry
from safeflux.errors import RegistryError
from safeflux.policy import read_policy
from safeflux.registry import BUILT_IN, Kind, get, names, target
from safeflux.wording import METRICS, attack

ACME = """
def attack(model, task, *, strength: float = 0.5):
    return strength
value = 3
"""


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed third-party package; what it registers is written to the file that is returned."""
    (tmp_path / "acme_registry.py").write_text(ACME, "utf-8")
    info = tmp_path / "acme-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    registry._table.cache_clear()
    yield info / "entry_points.txt"
    registry._table.cache_clear()


def test_third_parties_add_names(acme: Path) -> None:
    acme.write_text("[safeflux.attacks]\nacme = acme_registry:attack\n", "utf-8")
    assert names("attack") == (*BUILT_IN["attack"], "acme")
    assert target("attack", "acme") == "acme_registry:attack"
    assert get("attack", "acme")(None, None) == 0.5
    assert options.options("attack", "acme")["strength"].default == 0.5


def test_policies_may_use_them(acme: Path) -> None:
    from test_policy_errors import GOOD

    acme.write_text("[safeflux.attacks]\nacme = acme_registry:attack\n", "utf-8")
    policy = read_policy(GOOD.replace("paraphrase,", "{acme: {strength: 1}},").encode(), None)
    assert policy.audit.attacks[1].options == {"strength": 1.0}


def test_nobody_takes_a_name(acme: Path) -> None:
    acme.write_text("[safeflux.attacks]\nnone = acme_registry:attack\n", "utf-8")
    with pytest.raises(RegistryError, match=r"registered twice: as safeflux\.attacks\.none:none and as acme_registry:attack"):
        names("attack")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("acme_registry:none", "has no attribute 'none'"),
        ("acme_nothing:x", "No module named"),
        ("acme_registry:value", "not a function but int"),
    ],
)
def test_says_why_a_function_cannot_be_had(acme: Path, value: str, words: str) -> None:
    acme.write_text(f"[safeflux.attacks]\nacme = {value}\n", "utf-8")
    with pytest.raises(RegistryError, match=words):
        get("attack", "acme")


def test_a_broken_plugin_spoils_only_the_policies_that_use_it(acme: Path) -> None:
    from test_policy_errors import GOOD

    from safeflux.errors import PolicyError

    acme.write_text("[safeflux.attacks]\nacme = acme_nothing:x\n", "utf-8")
    assert read_policy(GOOD.encode(), None).name == "demo"
    with pytest.raises(
        PolicyError, match=r"policy:19:19: audit.attacks\[1\]: the attack \"acme\" cannot be used: the source of acme_nothing"
    ):
        read_policy(GOOD.replace("paraphrase,", "acme,").encode(), None)


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(RegistryError, match=r'there is no attack "ring-a-bel"; there is .*; did you mean "ring-a-bell"?'):
        target("attack", "ring-a-bel")
    with pytest.raises(RegistryError, match='"attacks" is not a kind'):
        names("attacks")  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, table in BUILT_IN.items() for name in table])
def test_every_built_in_is_there(kind: Kind, name: str) -> None:
    """And takes what its source says it takes."""
    function = get(kind, name)
    parameters = inspect.signature(function).parameters
    for option in options.options(kind, name).values():
        assert parameters[option.name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[option.name].default == option.default


def test_an_exporter_that_nobody_loads_is_refused_before_anything_is_trained(acme: Path) -> None:
    from test_policy_errors import GOOD

    from safeflux.errors import PolicyError

    acme.write_text("[safeflux.exporters]\nacme = acme_registry:attack\n", "utf-8")
    with pytest.raises(PolicyError, match=r'exports\[0\]: nothing loads what "acme" writes.*register a loader'):
        read_policy(GOOD.replace("exports: [diffusers]", "exports: [acme]").encode(), None)
    acme.write_text("[safeflux.exporters]\nacme = acme_registry:attack\n[safeflux.loaders]\nacme = acme_registry:attack\n", "utf-8")
    registry._table.cache_clear()
    assert read_policy(GOOD.replace("exports: [diffusers]", "exports: [acme]").encode(), None).exports[0].name == "acme"


def test_every_attack_is_in_the_docs_and_has_words() -> None:
    docs = (Path(__file__).parents[1] / "docs/attacks.md").read_text("utf-8")
    for name in BUILT_IN["attack"]:
        assert f"| `{name}` |" in docs
        assert attack(name) not in (name, "")


def test_every_metric_is_in_the_docs_and_has_words() -> None:
    docs = (Path(__file__).parents[1] / "docs/metrics.md").read_text("utf-8")
    for name in BUILT_IN["metric"]:
        assert f"`{name}`" in docs
        assert METRICS[name] not in (name, "")
