"""A policy file to a ``Policy``, or to everything that is wrong with it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safeflux.errors import PolicyError
from safeflux.policy import rules
from safeflux.policy.fields import VERSION, schema
from safeflux.policy.model import Audit, Bake, Base, Choice, Concept, Limit, Limits, Policy, ReportSettings, Signing
from safeflux.policy.shape import Shape
from safeflux.policy.tree import Problem, parse
from safeflux.prompts import NOUNS
from safeflux_signing.errors import InputError
from safeflux_signing.keynames import SCHEMES, ProgramName, SigstoreName, named

MAX_BYTES = 2**20
_ATTACKS = ("none", "paraphrase", "ring-a-bell", "embedding-pgd")  # without further files, and within hours
_MAX_SHOWN = 100


def load_policy(path: Path | str) -> Policy:
    """Read and check a policy file.

    Raises ``PolicyError`` whose ``problems`` are all of "file:line:column: field: what came; what is allowed", in the
    file's order. Nothing is imported, downloaded or run for it.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PolicyError([f"{path}: cannot be read: {error.strerror}; wanted: a policy file"]) from error
    return read_policy(raw, path)


def read_policy(raw: bytes, source: Path | None) -> Policy:
    """A policy from the bytes of its file; ``source`` is named in problems, and relative paths start from its folder."""
    file = str(source or "policy")
    if len(raw) > MAX_BYTES:
        raise PolicyError([f"{file}: came more than {MAX_BYTES} bytes; a policy is at most 1 MiB"])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8")
        place = Problem(
            before.count("\n") + 1, len(before) - before.rfind("\n"), "", f"came the byte 0x{raw[error.start]:02x}; wanted: UTF-8"
        )
        raise PolicyError([place.show(file)]) from error
    data = _checked(text, file)
    return _policy(data, source, hashlib.sha256(raw).hexdigest(), text)


def _checked(text: str, file: str) -> dict[str, Any]:
    root, problems = parse(text)
    data: Any = None
    if root is None and not problems:
        problems = [Problem(1, 1, "", f'came an empty file; a policy begins with "safeflux: {VERSION}"')]
    elif root is not None:
        shape = Shape()
        data = shape.value(root, schema(), "")
        problems += [*shape.problems, *rules.check(root)]
    if problems:
        shown = [one.show(file) for one in sorted(problems, key=lambda one: (one.line, one.column, one.path))]
        rest = [f"{file}: and {len(shown) - _MAX_SHOWN} more"] if len(shown) > _MAX_SHOWN else []
        raise PolicyError(shown[:_MAX_SHOWN] + rest)
    checked: dict[str, Any] = data
    return checked


def _policy(data: dict[str, Any], source: Path | None, digest: str, text: str) -> Policy:
    concepts = tuple(_concept(one, source) for one in data["concepts"])
    erased = {rules.same(word) for one in concepts for word in (one.name, *one.targets)}
    return Policy(
        name=data["name"],
        version=data["version"],
        seed=data.get("seed", 0),
        base=_base(data["base"], source),
        concepts=concepts,
        retain=tuple(data.get("retain", [noun for noun in NOUNS if noun not in erased])),
        method=_choice(data["method"]),
        limits=Limits(**{name: _limit(one) for name, one in data["limits"].items()}),
        audit=_audit(data.get("audit", {}), source),
        bake=Bake(**data.get("bake", {})),
        exports=tuple(_choice(one) for one in data.get("exports", ["diffusers"])),
        report=ReportSettings(**data.get("report", {})),
        signing=_signing(data.get("signing", {}), source),
        source=source,
        digest=digest,
        text=text,
    )


def _base(data: Mapping[str, Any], source: Path | None) -> Base:
    extends = data.get("extends")
    merges = tuple(_absolute(one, source) for one in data.get("merges", ()))
    return Base(data["model"], data.get("revision"), None if extends is None else _absolute(extends, source), merges)


def _absolute(path: str, source: Path | None) -> str:
    """A path of the policy, relative to its file."""
    return str(((source.parent if source else Path()) / Path(path).expanduser()).absolute())


def _concept(data: Mapping[str, Any], source: Path | None) -> Concept:
    labelled = data.get("labelled")
    return Concept(
        name=data["name"],
        category=data["category"],
        targets=tuple(data.get("targets", [data["name"]])),
        anchor=data.get("anchor", ""),
        retain=tuple(data.get("retain", [])),
        detector=_choice(data.get("detector", "mini")),
        label=data.get("label", data["name"]),
        translations={language: tuple(words) for language, words in data.get("translations", {}).items()},
        labelled=None if labelled is None else _absolute(labelled, source),
    )


def _audit(data: Mapping[str, Any], source: Path | None) -> Audit:
    photographs = data.get("photographs")
    return Audit(
        preset=data.get("preset", "standard"),
        attacks=tuple(_choice(one) for one in data.get("attacks", _ATTACKS)),
        images=data.get("images"),
        stop_early=data.get("stop_early", False),
        photographs=None if photographs is None else _absolute(photographs, source),
    )


def _choice(data: str | Mapping[str, Any]) -> Choice:
    if isinstance(data, str):
        return Choice(data)
    [(name, options)] = data.items()
    return Choice(name, options)


def _limit(data: float | Mapping[str, float]) -> Limit:
    if isinstance(data, Mapping):
        rate = data["at_most"] if "at_most" in data else data["at_least"]
        return Limit(rate, data.get("confidence", 0.95))
    return Limit(data)


def _signing(data: Mapping[str, Any], source: Path | None) -> Signing:
    key = data.get("key")
    return Signing(None if key is None else _key(key, source), data.get("demo", False), data.get("publisher"))


def _key(key: str, source: Path | None) -> str:
    """The private key with absolute paths; a name that is none is left to whoever opens it."""
    if not key.startswith(SCHEMES):
        return _absolute(key, source)
    try:
        name = named(key)
    except InputError:
        return key
    return name.below(Path(_absolute("", source))).written() if isinstance(name, ProgramName | SigstoreName) else key
