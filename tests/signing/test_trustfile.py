"""The trust file says one thing and is written in one form."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from signed_release import MOMENT, codes
from trust_example import EXAMPLE, POOL, TEXT, loads

from safeflux_signing import keys, trustfile
from safeflux_signing.errors import InputError
from safeflux_signing.trust import TrustStore, bare


def test_the_form_of_the_file() -> None:
    assert (
        TEXT.splitlines()[1:]
        == f"""\
safeflux_trust = 1
remember = "trust.seen.json"

# For releases with these ids, and those without one; a key that is trusted with others, too, still signs those alone.
[[threshold]]
models = ["*"]
roles = ["publisher"]
keys = 1

# For releases with these ids, and those without one; a key that is trusted with others, too, still signs those alone.
[[threshold]]
models = ["acme-*"]
roles = ["publisher", "auditor"]
keys = 2

# ECDSA P-256, key id {keys.key_id(POOL[0])}
[[key]]
publisher = "Acme \\"Models\\" \\\\ Söhne"
role = "publisher"
models = ["acme-*"]
predicates = ["*"]
not_before = 2026-01-02T03:04:05Z
not_after = 2027-02-06T03:04:05Z
status = "active"
public = "{base64.b64encode(keys.public_der(POOL[0])).decode()}"

# ECDSA P-256, key id {keys.key_id(POOL[1])}
[[key]]
publisher = "Auditors"
role = "auditor"
models = ["*"]
predicates = ["urn:*"]
status = "revoked"
reason = "lost"
date = 2026-01-02T03:04:05Z
public = "{base64.b64encode(keys.public_der(POOL[1])).decode()}"

[[revoked_release]]
id = "acme-1.0-abc"
reason = "bad"
date = 2026-01-02T03:04:05Z
""".splitlines()
    )


def test_a_hand_may_write_pem_other_zones_and_comments() -> None:
    public = base64.b64encode(keys.public_der(POOL[0])).decode()
    pem = keys.public_pem(POOL[0]).decode()
    by_hand = TEXT.replace(f'"{public}"', f'"""\n{pem}"""', 1).replace("2026-01-02T03:04:05Z", "2026-01-02 04:04:05+01:00 # said by them")
    assert trustfile.dumps(loads(by_hand)).decode() == TEXT


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("safeflux_trust = 1", ""),
        ("safeflux_trust = 1", "safeflux_trust = 2"),
        ("safeflux_trust = 1", "safeflux_trust = true"),
        ("safeflux_trust = 1", f"safeflux_trust = 0x{'f' * 5000}"),
        ("keys = 2", f"keys = 0x{'f' * 5000}"),
        ("keys = 2", "keys = 1001"),
        ("safeflux_trust = 1", "safeflux_trust = 1\nkeys = []"),
        ('status = "active"', ""),
        ('status = "active"', 'status = "Active"'),
        ('status = "active"', 'status = "active"\nreason = "?"'),
        ('status = "active"', 'status = "revoked"'),
        ('status = "active"', 'status = "active"\nstatus = "active"'),
        ('status = "active"', 'status = "active"\nnot_after_ = 2026-01-01T00:00:00Z'),
        ('reason = "lost"', ""),
        ('role = "publisher"', 'role = "owner"'),
        ('role = "publisher"', ""),
        ('models = ["acme-*"]\npred', "models = []\npred"),
        ('models = ["acme-*"]\npred', 'models = "acme-*"\npred'),
        ('models = ["acme-*"]\npred', "pred"),
        ('models = ["acme-*"]\npred', 'models = [""]\npred'),
        ('predicates = ["urn:*"]', "predicates = [1]"),
        ("not_before = 2026-01-02T03:04:05Z", "not_before = 2026-01-02"),
        ("not_before = 2026-01-02T03:04:05Z", "not_before = 2026-01-02T03:04:05"),
        ("not_before = 2026-01-02T03:04:05Z", "not_before = 2026-01-02T03:04:05.5Z"),
        ("not_before = 2026-01-02T03:04:05Z", 'not_before = "2026-01-02T03:04:05Z"'),
        ("not_before = 2026-01-02T03:04:05Z", "not_before = 0001-01-01T00:00:00+10:00"),
        ("not_before = 2026-01-02T03:04:05Z", "not_before = 9999-12-31T23:59:59-10:00"),
        ("keys = 2", "keys = 0"),
        ("keys = 2", "keys = true"),
        ('roles = ["publisher"]', 'roles = ["*"]'),
        ('roles = ["publisher"]', "roles = []"),
        ('publisher = "Auditors"', 'publisher = ""'),
        ('publisher = "Auditors"', 'publisher = "a\\u202eb"'),
        ('publisher = "Auditors"', f'publisher = "{"x" * 501}"'),
        ('id = "acme-1.0-abc"', ""),
        ("[[revoked_release]]", "[revoked_release]"),
        ("[[threshold]]", "[threshold]"),
    ],
)
def test_a_file_that_does_not_say_all_of_it_clearly_trusts_nothing(old: str, new: str) -> None:
    assert old in TEXT
    with pytest.raises(InputError) as caught:
        loads(TEXT.replace(old, new, 1))
    assert codes(caught.value) == {("trust.toml", "trust-invalid")}


@pytest.mark.parametrize(
    "data", [b"\xff", b"a = " + b"[" * 10**5, b"a = " + b"{a=" * 10**5, b"=", b"\x00", b"", b"key = 1", b"[[key]]"], ids=range(8)
)
def test_what_is_no_trust_file_is_refused(data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        loads(b"safeflux_trust = 1\n" + data if data else data)
    assert codes(caught.value) == {("trust.toml", "trust-invalid")}


def _keys_that_are_none() -> Iterator[str]:
    der = keys.public_der(POOL[0])
    yield from (
        "",
        "AAAA",
        "*",
        base64.b64encode(der[:-1]).decode(),
        base64.b64encode(der + b"\x00").decode(),
        "-----BEGIN PUBLIC KEY-----",
    )
    k1 = ec.generate_private_key(ec.SECP256K1()).public_key()
    yield base64.b64encode(keys.public_der(k1)).decode()
    yield "-----BEGIN PRIVATE KEY-----"
    yield keys.public_pem(POOL[0]).decode()[27:]


@pytest.mark.parametrize("public", list(_keys_that_are_none()), ids=range(9))
def test_a_key_must_be_one(public: str) -> None:
    good = base64.b64encode(keys.public_der(POOL[0])).decode()
    with pytest.raises(InputError, match="key 1: "):
        loads(TEXT.replace(f'"{good}"', f'"""{public}"""', 1))


def test_a_key_may_not_stand_there_twice_whatever_it_is_called() -> None:
    entry = TEXT[TEXT.index("[[key]]") : TEXT.index("# ECDSA", TEXT.index("[[key]]"))]
    public = base64.b64encode(keys.public_der(POOL[0])).decode()
    pem = f'"""\n{keys.public_pem(POOL[0]).decode()}"""'
    alias = entry.replace("Acme", "Somebody else").replace(f'"{public}"', pem)
    with pytest.raises(InputError, match="twice"):
        loads(f"{TEXT}\n{alias}")
    with pytest.raises(InputError, match="twice"):
        loads(TEXT + TEXT[TEXT.index("[[revoked_release]]") :])


def test_changes_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "trust.toml"
    seen: list[TrustStore] = []

    def set_to(store: TrustStore) -> Callable[[TrustStore], TrustStore]:
        def how(before: TrustStore) -> TrustStore:
            seen.append(before)
            return store

        return how

    def refused(at: Path, how: Callable[[TrustStore], TrustStore]) -> set[str]:
        with pytest.raises(InputError) as caught:
            trustfile.change(at, how)
        return {finding.code for finding in caught.value.findings}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    assert trustfile.change(path, set_to(EXAMPLE)) == EXAMPLE
    assert seen == [TrustStore()]
    assert path.read_text() == TEXT
    assert trustfile.read(path).home == path.parent
    assert refused(path, set_to(replace(EXAMPLE, remember="two\nlines"))) == {"trust-invalid"}
    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full)
        assert refused(path, set_to(TrustStore())) == {"trust-unwritable"}
    assert path.read_text() == TEXT
    trustfile.change(path, set_to(replace(EXAMPLE, entries=EXAMPLE.entries[:1])))
    assert len(trustfile.read(path).entries) == 1
    assert refused(path / "below", set_to(EXAMPLE)) == {"trust-unwritable"}
    path.write_text("no trust file")
    assert refused(path, set_to(EXAMPLE)) == {"trust-invalid"}
    assert path.read_text() == "no trust file"


def test_where_the_trust_file_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAFEFLUX_TRUST", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert trustfile.default_path() == tmp_path / ".config" / "safeflux" / "trust.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative/is/ignored")
    assert trustfile.default_path() == tmp_path / ".config" / "safeflux" / "trust.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert trustfile.default_path() == tmp_path / "xdg" / "safeflux" / "trust.toml"
    monkeypatch.setenv("SAFEFLUX_TRUST", str(tmp_path / "mine.toml"))
    assert trustfile.default_path() == tmp_path / "mine.toml"
    assert trustfile.trusted([], None) == TrustStore()
    (tmp_path / "mine.toml").write_text(TEXT)
    assert trustfile.trusted([], None).entries == trustfile.read(tmp_path / "mine.toml").entries != ()
    (tmp_path / "a.pub").write_bytes(keys.public_pem(POOL[0]))
    assert trustfile.trusted([tmp_path / "a.pub"], None) == bare(POOL[:1])
    with pytest.raises(InputError) as missing:
        trustfile.trusted([], tmp_path / "none.toml")
    assert {finding.code for finding in missing.value.findings} == {"trust-unreadable"}


def test_times_of_any_zone_are_kept_in_utc() -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    entry = replace(EXAMPLE.entries[0], not_before=MOMENT.astimezone(east), not_after=datetime(1, 1, 2, tzinfo=east))
    again = loads(trustfile.dumps(TrustStore((entry,)))).entries[0]
    assert (again.not_before, again.not_after) == (entry.not_before, entry.not_after)
