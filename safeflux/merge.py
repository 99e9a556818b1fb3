"""One policy out of those of releases that were made apart. Imports no torch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safeflux.errors import PlanError

_LOCK = "policy.lock.yaml"
_HEAD = "# Made of {}. Change it as you like; `safeflux release` takes it like any other policy.\n"


def merged_policy(releases: Sequence[Path], *, name: str | None = None, version: str = "1.0", base: str | None = None) -> str:
    """The policy file of a release that erases what ``releases`` (directories) erase, by training that starts from all of their masks.

    Concepts and retained nouns are put together, of each limit the stricter one is taken; all else, the method's options among it, is
    the first release's. ``base``: the model, where their policies had it in a directory, which is not published. Of signing keys only
    the demo's is taken over.

    Raises ``PlanError`` for fewer than two releases, one without a readable policy, of other bases, or which describes a concept
    otherwise. What else is wrong with the result, such as a word that one erases and another retains, ``read_policy`` tells.
    """
    if len(releases) < 2:
        raise PlanError(f"came {len(releases)} release; wanted two or more to merge")
    policies = [released_policy(directory) for directory in releases]
    first = policies[0]
    merged = {
        **first,
        "name": name or "-".join(str(policy["name"]) for policy in policies)[:64],
        "version": version,
        "base": _base(policies, releases, base) | {"merges": [str(directory.resolve()) for directory in releases]},
        "concepts": _concepts(policies, releases),
        "limits": {limit: _stricter(limit, [policy["limits"][limit] for policy in policies]) for limit in first["limits"]},
        "retain": list(dict.fromkeys(noun for policy in policies for noun in policy.get("retain", ()))),
        "signing": {key: value for key, value in first.get("signing", {}).items() if key != "key"},
    }
    told = ", ".join(f"{policy['name']} {policy['version']}" for policy in policies)
    return _HEAD.format(told) + _dump({key: value for key, value in merged.items() if value or key not in ("retain", "signing")})


def released_policy(directory: Path) -> dict[str, Any]:
    """The policy that a release was made by, as plain data, paths of the publisher's machine withheld. PlanError if there is none."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML(typ="safe", pure=True)
    path = directory / _LOCK
    try:
        policy = yaml.load(str(yaml.load(path.read_text(encoding="utf-8"))["policy"]))
    except (OSError, UnicodeDecodeError, YAMLError, KeyError, TypeError) as error:
        raise PlanError(f"{path} cannot be read: {' '.join(str(error).split())}; wanted the directory of a release") from error
    if not isinstance(policy, dict) or not {"name", "version", "base", "concepts", "limits"} <= set(policy):
        raise PlanError(f"{path} holds no policy; wanted the directory of a release")
    return policy


def _base(policies: Sequence[Mapping[str, Any]], releases: Sequence[Path], given: str | None) -> dict[str, Any]:
    known = [dict(policy["base"]) for policy in policies]
    if given is not None:
        return {"model": given, **({"revision": known[0]["revision"]} if known[0].get("revision") and given == known[0]["model"] else {})}
    models = [one["model"] for one in known]
    if "(withheld)" in models:
        at = releases[models.index("(withheld)")]
        raise PlanError(f"{at / _LOCK} does not say in which directory the base model is; name it with --base")
    if len(set(models)) > 1:
        raise PlanError(f"the releases were made from {' and '.join(dict.fromkeys(models))}; wanted one base model")
    return {key: value for key, value in known[0].items() if key in ("model", "revision")}


def _concepts(policies: Sequence[Mapping[str, Any]], releases: Sequence[Path]) -> list[Any]:
    found: dict[str, Any] = {}
    for policy, directory in zip(policies, releases, strict=True):
        for concept in policy["concepts"]:
            if found.setdefault(concept["name"], concept) != concept:
                raise PlanError(f"{directory / _LOCK} describes {concept['name']} otherwise than a release before it; wanted the same")
    return list(found.values())


def _stricter(name: str, limits: Sequence[Any]) -> dict[str, float]:
    """The smallest ceiling or largest floor of limits of the same ``name``, at the highest confidence that any of them asks for."""
    side, strictest = ("at_least", max) if name == "retained" else ("at_most", min)
    plain = [limit if isinstance(limit, Mapping) else {side: limit} for limit in limits]
    return {side: strictest(limit[side] for limit in plain), "confidence": max(limit.get("confidence", 0.95) for limit in plain)}


def _dump(policy: Mapping[str, Any]) -> str:
    from ruamel.yaml import YAML

    yaml, out = YAML(), io.StringIO()
    yaml.default_flow_style = None
    yaml.width = 120
    yaml.dump(dict(policy), out)
    return out.getvalue()
