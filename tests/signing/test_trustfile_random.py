"""However a trust file is changed, it trusts nobody by accident."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from signed_release import MOMENT, fill
from trust_example import EXAMPLE, POOL, TEXT, loads

from safeflux_signing import trustfile
from safeflux_signing.errors import InputError, SigningError, UntrustedKeyError
from safeflux_signing.sign import sign
from safeflux_signing.trust import ROLES, Revocation, Threshold, TrustedIdentity, TrustedKey, TrustStore
from safeflux_signing.verify import verify

FEW = settings(max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
STRANGER = ec.derive_private_key(7, ec.SECP256R1())

texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20).filter(str.isprintable)
lists = st.lists(texts, min_size=1, max_size=3).map(tuple)
times = st.datetimes(timezones=st.just(UTC)).map(lambda time: time.replace(microsecond=0))
revocations = st.builds(Revocation, texts, times)
roles = st.sampled_from(ROLES)
trusted_keys = st.builds(
    TrustedKey, st.sampled_from(POOL), texts, roles, lists, lists, st.none() | times, st.none() | times, st.none() | revocations
)
identities = st.builds(
    TrustedIdentity, texts, texts, texts, roles, lists, lists, st.none() | times, st.none() | times, st.none() | revocations
)
stores = st.builds(
    lambda *parts: TrustStore(*parts, sigstore_root="trusted_root.json" if parts[-1] else None),
    st.lists(trusted_keys, max_size=4, unique_by=lambda entry: entry.key_id).map(tuple),
    st.lists(st.tuples(texts, revocations), max_size=3, unique_by=lambda pair: pair[0]).map(tuple),
    st.lists(st.builds(Threshold, st.integers(1, 9), st.lists(roles, min_size=1, max_size=2).map(tuple), lists), max_size=3).map(tuple),
    st.none() | texts,
    st.lists(identities, max_size=2, unique_by=lambda one: (one.identity, one.issuer)).map(tuple),
)


@FEW
@given(stores)
def test_what_is_written_is_what_is_read(store: TrustStore) -> None:
    data = trustfile.dumps(store)
    read = loads(data)
    assert trustfile.dumps(read) == data
    assert sorted(read.entries, key=lambda e: e.key_id) == sorted(store.entries, key=lambda e: e.key_id)
    assert sorted(read.revoked_releases) == sorted(store.revoked_releases, key=lambda pair: pair[0])
    assert (sorted(map(repr, read.thresholds)), read.remember) == (sorted(map(repr, store.thresholds)), store.remember)
    assert (sorted(map(repr, read.identities)), read.sigstore_root) == (sorted(map(repr, store.identities)), store.sigstore_root)


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release by somebody whom no trust file here trusts."""
    directory = fill(tmp_path_factory.mktemp("strange") / "release")
    sign(directory, STRANGER, release_id="acme-1.0-def", sequence=1)
    return directory


@FEW
@given(st.data())
def test_no_change_of_the_file_makes_a_stranger_trusted(strange: Path, data: st.DataObject) -> None:
    """Bytes and lines of a good file replaced, repeated, dropped or moved: another good file, or InputError, and never trust."""
    mutant = bytearray(TEXT.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(mutant) - 1))
        size = data.draw(st.integers(0, 60))
        mutant[at : at + size] = data.draw(
            st.binary(max_size=4)
            | st.sampled_from([b'"', b"[[key]]\n", b"\n", b"*", b"[", b"1", b"2026-01-01T00:00:00Z", bytes(mutant[:at])])
        )
    try:
        store = replace(loads(bytes(mutant)), remember=None)
    except InputError:
        return
    assert {entry.key_id for entry in store.entries} <= {entry.key_id for entry in EXAMPLE.entries}
    with pytest.raises(UntrustedKeyError):
        verify(strange, store, now=MOMENT)
    assert trustfile.dumps(loads(trustfile.dumps(store))) == trustfile.dumps(store)


@FEW
@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_bytes_at_all_raise_anything_else(data: bytes) -> None:
    def reasons(whole: bytes) -> set[str]:
        try:
            loads(whole)
        except SigningError as error:
            return {finding.code for finding in error.findings}
        return set()

    for whole in (data, b"safeflux_trust = 1\n" + data):
        assert reasons(whole) <= {"trust-invalid"}
