"""A policy as its release shows it: word for word, with what it came to, and without paths of the publisher's machine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from safeflux.policy import Policy

_WITHHELD = "(withheld)"
_PATH = re.compile(r"~|\.{0,2}/|[A-Za-z]:[\\/]")


def public(value: Any) -> Any:
    """``value`` with every path in it cut down to its last part."""
    if isinstance(value, Mapping):
        return {name: public(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [public(inner) for inner in value]
    return value.rstrip("/").rsplit("/", 1)[-1] if isinstance(value, str) and _PATH.match(value) else value


def base_name(policy: Policy) -> str:
    """The base model as the world may know it: of a directory only its name."""
    return str(public(policy.base.model))


def lock_text(policy: Policy, report: Mapping[str, Any]) -> str:
    """``policy.lock.yaml``: the policy, word for word, and what it came to. Paths of the publisher's machine are withheld."""
    text, withheld = _published(policy)
    resolved = {
        "policy_sha256": policy.digest,
        "withheld": withheld,
        "base": report["base"],
        "method": report["method"],
        "edit_sha256": report["edit"]["digest"],
        "attacks": report["policy"]["attacks"],
        "detectors": report["detectors"],
        "environment": report["environment"],
    }
    lines = [f"{name}: {json.dumps(value, sort_keys=True, ensure_ascii=False)}" for name, value in resolved.items()]
    block = "".join(f"  {line}\n" if line else "\n" for line in text.splitlines())
    head = "# What this release was made by. policy_sha256 is the digest of the whole policy, with what is withheld here."
    return "\n".join([head, "safeflux_lock: 1", *lines, f"policy: |2+\n{block}"])


def _published(policy: Policy) -> tuple[str, list[str]]:
    """The policy's text without paths of the publisher's machine, and the fields that were withheld."""
    from ruamel.yaml import YAML

    text, withheld = policy.text, []
    for field, value in _leaves(YAML(typ="safe", pure=True).load(policy.text), ""):
        if (
            field in ("signing.key", "base.extends", "audit.photographs")
            or field.endswith(".labelled")
            or field.startswith("base.merges[")
            or _PATH.match(value)
        ):
            text = text.replace(value, _WITHHELD)
            withheld.append(field)
    return text, withheld


def _leaves(value: object, field: str) -> Iterator[tuple[str, str]]:
    """Every text in ``value`` and the field it stands in."""
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{field}.{name}".removeprefix("."))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{field}[{number}]")
