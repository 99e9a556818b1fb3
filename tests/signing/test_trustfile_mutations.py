"""What a trust file refuses, it goes on refusing, whatever else in it is changed: only words about the very key can trust it.

Changed are values anywhere in the file: replaced by others, also of other places, removed, repeated, retyped, exchanged; but never
within the table that refuses, as this is what it means to change one's mind.
"""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mutating
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from mutating import restructured, singles, tried
from signed_release import MOMENT, fill
from sigstore_fakes import NOW

from safeflux_signing import trustfile
from safeflux_signing.errors import InputError, SigningError, VerificationError
from safeflux_signing.sign import sign
from safeflux_signing.trust import ROLES, Revocation, Threshold, TrustedKey, TrustStore
from safeflux_signing.verify import verify

GOOD, AUDITOR, REVOKED, EXPIRED, ELSEWHERE, STRANGER = (ec.derive_private_key(number, ec.SECP256R1()) for number in range(31, 37))
GONE, DAY = Revocation("stolen", MOMENT), timedelta(days=1)
STORE = TrustStore(
    (
        TrustedKey(GOOD.public_key(), "Acme", not_after=MOMENT + DAY),
        TrustedKey(AUDITOR.public_key(), "Auditors", "auditor", predicates=("urn:*",)),
        TrustedKey(REVOKED.public_key(), "Before", revoked=GONE),
        TrustedKey(EXPIRED.public_key(), "Long ago", not_before=MOMENT - 2 * DAY, not_after=MOMENT - DAY),
        TrustedKey(ELSEWHERE.public_key(), "Others", models=("other-*",)),
    ),
    (("demo-gone", GONE),),
    (Threshold(1), Threshold(2, ROLES, ("two-*",))),
)
DOCUMENT = tomllib.loads(trustfile.dumps(STORE).decode())
VALUES = (
    *mutating.VALUES, "demo-1", "demo-*", "active", "revoked", "auditor", ["*"], ["publisher"],
    MOMENT, datetime(9999, 1, 1, tzinfo=UTC), datetime(2026, 1, 1),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Signed by ``key`` as ``release_id``, which the table ``own`` refuses, of those called ``kind``; None: the file says nothing of it."""

    key: ec.EllipticCurvePrivateKey
    release_id: str
    kind: str | None = None
    own: int = 0

    def allowed(self, path: mutating.Path) -> bool:
        """Whether a change there says nothing about what refuses. A rule is gone with the list of its kind, a key is not trusted then."""
        within = self.kind is not None and path[:2] == (self.kind, self.own)
        above = self.kind in ("threshold", "revoked_release") and path in ((), (self.kind,))
        return not within and not above

    def again(self) -> Iterator[Any]:
        """The key, where the file has it, once more in the place of each other one."""
        for number in range(len(DOCUMENT["key"])) if self.kind == "key" else ():
            changed = copy.deepcopy(DOCUMENT)
            changed["key"][number]["public"] = DOCUMENT["key"][self.own]["public"]
            if number != self.own:
                yield changed


CASES = {
    "a stranger's": Case(STRANGER, "demo-1"),
    "an auditor's": Case(AUDITOR, "demo-1", "key", 1),
    "by a revoked key": Case(REVOKED, "demo-1", "key", 2),
    "by a key that is no longer valid": Case(EXPIRED, "demo-1", "key", 3),
    "by a key for others": Case(ELSEWHERE, "demo-1", "key", 4),
    "a revoked one": Case(GOOD, "demo-gone", "revoked_release", 0),
    "by too few": Case(GOOD, "two-1", "threshold", 1),
}


def toml(value: Any) -> str:
    """``value`` in one line of TOML; what it has no word for becomes a number that is none."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(name)} = {toml(one)}' for name, one in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    return "nan" if value is None else str(value)


def document(value: Any) -> bytes:
    """A trust file that holds ``value``, if it can be one."""
    text = "".join(f"{json.dumps(name)} = {toml(one)}\n" for name, one in value.items()) if isinstance(value, dict) else toml(value)
    return text.replace(f'"{mutating.DOUBLE}', '"').encode()


def read(data: bytes, home: Path = Path()) -> TrustStore | None:
    """The store that is in it, or None if it is refused, which only an InputError may do."""
    try:
        return replace(trustfile.loads(data, "trust.toml"), remember=None, home=home)
    except InputError:
        return None


def test_the_file_survives_being_written_in_other_words() -> None:
    assert read(document(DOCUMENT)) == STORE


@pytest.mark.parametrize("name", CASES)
def test_no_change_elsewhere_makes_a_release_trusted(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    directory = fill(tmp_path / "release")
    sign(directory, case.key, release_id=case.release_id, sequence=1)
    with pytest.raises(VerificationError):
        verify(directory, STORE, now=MOMENT)

    def check(changed: Any) -> bool:
        if store := read(document(changed)):
            with pytest.raises(VerificationError):
                verify(directory, store, now=MOMENT)
        return store is not None

    changes = 2 if case.kind is None else 1  # two could move the table that refuses, and then change it
    drawn = restructured(DOCUMENT, changes=changes, values=VALUES, allowed=case.allowed)
    tried(check, drawn, 300 if case.kind is None else 100, [*singles(DOCUMENT, case.allowed), *case.again()])


@pytest.mark.parametrize("options", [{"identity": "release@evil.example"}, {"issuer": "https://accounts.evil.example"}], ids=str)
def test_no_change_makes_somebody_else_s_certificate_trusted(
    certified: Callable[..., Path], acme: TrustStore, options: dict[str, str]
) -> None:
    pytest.importorskip("sigstore", reason="sigstore is not installed: pip install 'safeflux[sigstore]'")
    directory = certified(**options)
    good = tomllib.loads(trustfile.dumps(replace(STORE, identities=acme.identities, sigstore_root=acme.sigstore_root)).decode())
    assert read(document(good), acme.home) == replace(STORE, identities=acme.identities, sigstore_root=acme.sigstore_root)

    def check(changed: Any) -> bool:
        if store := read(document(changed), acme.home):
            with pytest.raises(SigningError):  # an InputError, where the trusted root is not where the file says now
                verify(directory, store, now=NOW)
        return store is not None

    tried(check, restructured(good, values=VALUES), 150)
