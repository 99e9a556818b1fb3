"""The trust file: who is trusted, written in TOML by hand or by ``safeflux keys``.

Read strictly: a field that is not known, a key that stands twice under two names, a time without its zone are refused, as
is a file that says less than it must. What is trusted is never a matter of something left out. Written in one form only,
so comments of one's own go when a command changes the file.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safeflux_signing import keys, linefiles, smallfiles, trust
from safeflux_signing.errors import SigningError, refusal
from safeflux_signing.trust import ROLES, Revocation, Role, Threshold, TrustedIdentity, TrustedKey, TrustStore

FORMAT = 1
MAX_BYTES = 4 << 20
LONGEST = 500
"""Characters of a name, glob or reason."""

Check = Callable[[object, str], Any]
"""Turns a value from the file, named by the second argument, into one of ours. Raises ValueError."""

_HEAD = """\
# Whom `safeflux verify` trusts, and for what. `safeflux keys trust`, `untrust` and `revoke` change this file.
"""


_BINDS = "# For releases with these ids, and those without one; a key that is trusted with others, too, still signs those alone.\n"


def default_path() -> Path:
    """Where the trust file lies unless one is named: $SAFEFLUX_TRUST, or safeflux/trust.toml in the user's configuration."""
    if named := os.environ.get("SAFEFLUX_TRUST"):
        return Path(named)
    config = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(config) if config.startswith("/") else Path.home() / ".config") / "safeflux" / "trust.toml"


def trusted(key_files: Sequence[Path], trust_file: Path | None) -> TrustStore:
    """What the user asked to trust: the keys in these files; else the trust file named; else the one in its default place.

    Nothing at all is an empty store, with which nothing verifies. Raises InputError: key-..., trust-unreadable, trust-invalid.
    """
    if key_files:
        return trust.bare(keys.load_public(path) for path in key_files)
    return read(trust_file) if trust_file else _read_if_there(default_path())


def read(path: Path) -> TrustStore:
    """The trust file ``path``. Raises InputError (trust-unreadable, trust-invalid)."""
    return _at(path, smallfiles.read(path, MAX_BYTES, "trust-unreadable"))


def change(path: Path, how: Callable[[TrustStore], TrustStore]) -> TrustStore:
    """Put what ``how`` makes of the store in ``path`` (an empty one if there is no such file) in its place; returns it.

    Raises InputError (trust-unreadable, trust-invalid, trust-unwritable), and what ``how`` raises; the file is then as before.
    """
    with smallfiles.changing(path, "trust-unwritable"):
        store = how(_read_if_there(path))
        data = dumps(store)
        loads(data, str(path))  # what could not be read again is not written
        smallfiles.replace(path, data, "trust-unwritable")
    return store


def loads(data: bytes, file: str) -> TrustStore:
    """The store that ``data`` describes; ``file`` is named in errors. Raises InputError (trust-invalid)."""
    import tomllib

    try:
        document = tomllib.loads(data.decode("utf-8"))
        return _store(document)
    except RecursionError:
        raise refusal("trust-invalid", file, "nested deeper than any trust file") from None
    except SigningError as error:
        raise refusal("trust-invalid", file, f"{error.findings[0].file}: {error.findings[0].what}") from error
    except (ValueError, OverflowError) as error:
        raise refusal("trust-invalid", file, f"not a trust file: {error}") from error


def dumps(store: TrustStore) -> bytes:
    """The store as TOML, in the one form this package writes."""
    parts = [_HEAD + _fields(safeflux_trust=FORMAT, remember=store.remember, sigstore_root=store.sigstore_root)]
    for rule in sorted(store.thresholds, key=lambda rule: (rule.models, rule.roles, rule.keys)):
        parts.append(_BINDS + "[[threshold]]\n" + _fields(models=rule.models, roles=rule.roles, keys=rule.keys))
    for entry in sorted(store.entries, key=lambda entry: (entry.publisher, entry.key_id)):
        head = f"# {keys.kind(entry.key).in_words}, key id {entry.key_id}\n[[key]]\n"
        parts.append(head + _granted(entry) + _fields(public=base64.b64encode(keys.public_der(entry.key)).decode("ascii")))
    for one in sorted(store.identities, key=lambda one: (one.publisher, one.identity, one.issuer)):
        parts.append("[[identity]]\n" + _granted(one) + _fields(identity=one.identity, issuer=one.issuer))
    for release_id, revocation in sorted(store.revoked_releases, key=lambda pair: pair[0]):
        parts.append("[[revoked_release]]\n" + _fields(id=release_id, reason=revocation.reason, date=revocation.date))
    return "\n".join(parts).encode("utf-8")


def _granted(entry: TrustedKey | TrustedIdentity) -> str:
    """What a key or an identity may vouch for."""
    gone = entry.revoked
    return (
        _fields(publisher=entry.publisher, role=entry.role, models=entry.models, predicates=entry.predicates)
        + _fields(not_before=entry.not_before, not_after=entry.not_after, status="revoked" if gone else "active")
        + _fields(reason=gone and gone.reason, date=gone and gone.date)
    )


def _read_if_there(path: Path) -> TrustStore:
    data = smallfiles.read_if_there(path, MAX_BYTES, "trust-unreadable")
    return TrustStore() if data is None else _at(path, data)


def _at(path: Path, data: bytes) -> TrustStore:
    return replace(loads(data, str(path)), home=path.resolve().parent)


def _fields(**values: object) -> str:
    """Lines of TOML, none for what is None."""
    return "".join(f"{name} = {_toml(value)}\n" for name, value in values.items() if value is not None)


def _toml(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, int):
        return str(value)
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _store(document: object) -> TrustStore:
    """Raises ValueError, OverflowError or SigningError."""
    lists = {"key": _tables, "identity": _tables, "revoked_release": _tables, "threshold": _tables}
    top = _parsed(document, "the file", {"safeflux_trust": _number}, {"remember": _text, "sigstore_root": _text, **lists})
    if top["safeflux_trust"] != FORMAT:
        raise ValueError(f"it is of a format that this version does not know; wanted safeflux_trust = {FORMAT}")
    store = TrustStore(
        entries=tuple(_key(table, f"key {number}") for number, table in enumerate(top.get("key", ()), 1)),
        revoked_releases=tuple(_release(table, f"revoked_release {n}") for n, table in enumerate(top.get("revoked_release", ()), 1)),
        thresholds=tuple(_threshold(table, f"threshold {number}") for number, table in enumerate(top.get("threshold", ()), 1)),
        remember=top.get("remember"),
        identities=tuple(_identity(table, f"identity {number}") for number, table in enumerate(top.get("identity", ()), 1)),
        sigstore_root=top.get("sigstore_root"),
    )
    if len(dict(store.revoked_releases)) != len(store.revoked_releases):
        raise ValueError("a revoked release stands in it twice")
    return store


def _key(table: object, what: str) -> TrustedKey:
    values = _grant(table, what, {"public": _long_text})
    return TrustedKey(keys.read_text(values.pop("public"), what), **values)


def _identity(table: object, what: str) -> TrustedIdentity:
    return TrustedIdentity(**_grant(table, what, {"identity": _text, "issuer": _text}))


def _grant(table: object, what: str, who: Mapping[str, Check]) -> dict[str, Any]:
    """The fields ``who`` of a table, and what they may vouch for."""
    required = {**who, "publisher": _text, "role": _role, "models": _texts, "predicates": _texts, "status": _text}
    values = _parsed(table, what, required, {"not_before": _time, "not_after": _time, "reason": _text, "date": _time})
    status, reason, date = values.pop("status"), values.pop("reason", None), values.pop("date", None)
    if (status, reason is not None, date is not None) not in (("active", False, False), ("revoked", True, True)):
        raise ValueError(f'{what}: wanted status = "active", or status = "revoked" with a reason and a date')
    return {**values, "revoked": Revocation(reason, date) if status == "revoked" else None}


def _release(table: object, what: str) -> tuple[str, Revocation]:
    values = _parsed(table, what, {"id": _text, "reason": _text, "date": _time}, {})
    return values["id"], Revocation(values["reason"], values["date"])


def _threshold(table: object, what: str) -> Threshold:
    values = _parsed(table, what, {"models": _texts, "roles": _texts, "keys": _number}, {})
    if not 1 <= values["keys"] <= linefiles.MAX_LINES:
        raise ValueError(f"{what}: keys is at least 1, and at most {linefiles.MAX_LINES}")
    return Threshold(values["keys"], tuple(_role(role, f"{what}: roles") for role in values["roles"]), values["models"])


def _parsed(table: object, what: str, required: Mapping[str, Check], optional: Mapping[str, Check]) -> dict[str, Any]:
    """The fields of a table, each through its check. Raises ValueError for one that is missing, unknown or wrong."""
    if not isinstance(table, dict):
        raise ValueError(f"{what} is not a table")
    checks = {**required, **optional}
    if missing := sorted(required.keys() - table.keys()):
        raise ValueError(f"{what} lacks {', '.join(missing)}")
    if unknown := sorted(table.keys() - checks.keys()):
        raise ValueError(f"{what} has fields that this version does not know: {', '.join(unknown)[:LONGEST]}")
    return {name: checks[name](value, f"{what}: {name}") for name, value in table.items()}


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST or not value.isprintable():
        raise ValueError(f"{what} is not a text of 1 to {LONGEST} visible characters")
    return value


def _long_text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} is not a text")
    return value


def _texts(value: object, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{what} is not a list of texts, at least one")
    return tuple(_text(one, what) for one in value)


def _tables(value: object, what: str) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"{what} is not a list of tables")
    return value


def _role(value: object, what: str) -> Role:
    if value not in ROLES:
        raise ValueError(f"{what} is one of {', '.join(ROLES)}")
    return value


def _number(value: object, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        raise ValueError(f"{what} is not a whole number of 64 bits")
    return value


def _time(value: object, what: str) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None or value.microsecond:
        raise ValueError(f"{what} is not a time with its zone, to the second, such as 2027-01-31T00:00:00Z")
    return value.astimezone(UTC)
