"""A claim about what was fixed before there were files: bound to a release by its manifest, and by nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from signed_release import CLAIMS, MOMENT, codes

from safeflux_signing import commitments, dsse, manifest, strictjson
from safeflux_signing.commitments import Commitment, Fixed
from safeflux_signing.errors import InputError, SigningError, UnsafeReleaseError
from safeflux_signing.keys import PrivateKey, key_id
from safeflux_signing.sign import sign
from safeflux_signing.verify import verify

Refuse = Callable[[Path], SigningError]
FILE = "claims.jsonl"
PROMISE = Commitment("policy demo", Fixed("ab" * 32, MOMENT), (Fixed("cd" * 32, MOMENT - timedelta(days=1)),))


@pytest.fixture
def line(key: PrivateKey) -> bytes:
    return commitments.seal(PROMISE, key)


def test_it_is_read_as_it_was_written(line: bytes) -> None:
    read, payload = commitments.line(line)
    assert read == PROMISE
    assert commitments.loads(payload, FILE) == PROMISE
    east = Fixed("ab" * 32, MOMENT.astimezone(timezone(timedelta(hours=9))))
    assert strictjson.read_time(strictjson.write_time(east.time)) == MOMENT


def test_the_release_requires_the_line_that_was_signed_before(bare: Path, key: PrivateKey, line: bytes, refused: Refuse) -> None:
    sign(bare, key, release_id="x", sequence=1, claims=CLAIMS, commitment=line)
    assert (bare / FILE).read_bytes().startswith(line)
    [claim, *others] = verify(bare, [key.public_key()]).claims
    assert (claim.predicate_type, claim.key_id, claim.required) == (commitments.PREDICATE_TYPE, key_id(key.public_key()), True)
    assert claim.commitment == PROMISE
    assert [one.commitment for one in others] == [None] * len(CLAIMS)
    (bare / FILE).write_bytes((bare / FILE).read_bytes().removeprefix(line))
    assert codes(refused(bare)) == {(FILE, "claim-missing")}


def test_one_that_no_manifest_requires_says_nothing_about_a_release(release: Path, key: PrivateKey, line: bytes, refused: Refuse) -> None:
    with (release / FILE).open("ab") as stream:
        stream.write(line)
    assert codes(refused(release)) == {(FILE, "claim-subject")}


def test_one_is_not_exchanged_for_another(bare: Path, key: PrivateKey, line: bytes, refused: Refuse) -> None:
    """The publisher's own, but with a later time: not the one that the release was signed with."""
    sign(bare, key, release_id="x", sequence=1, commitment=line)
    (bare / FILE).write_bytes(commitments.seal(Commitment(PROMISE.name, Fixed("ab" * 32, MOMENT + timedelta(1))), key))
    assert codes(refused(bare)) == {(FILE, "claim-subject"), (FILE, "claim-missing")}


@pytest.mark.parametrize(
    "edit",
    [
        lambda s: s["predicate"].update(time="2026-01-02"),
        lambda s: s["predicate"].update(time=1),
        lambda s: s["predicate"].update(earlier={}),
        lambda s: s["predicate"].update(earlier=[{"sha256": "cd" * 32}]),
        lambda s: s["predicate"].update(more=1),
        lambda s: s["subject"][0].update(digest={"sha256": "AB" * 32}),
        lambda s: s["subject"][0]["digest"].update(sha512="ab" * 64),
        lambda s: s.update(predicate=None),
    ],
)
def test_a_shape_that_is_none_is_refused(bare: Path, key: PrivateKey, refused: Refuse, edit: Callable[[Any], Any]) -> None:
    statement = json.loads(commitments.line(commitments.seal(PROMISE, key))[1])
    edit(statement)
    payload = json.dumps(statement).encode()
    with pytest.raises(UnsafeReleaseError):
        commitments.loads(payload, FILE)
    with pytest.raises(UnsafeReleaseError):
        sign(bare, key, release_id="x", sequence=1, commitment=dsse.dumps(dsse.seal(payload, key)) + b"\n")
    assert not (bare / "model.sig").exists()


def test_it_is_not_given_as_a_claim_about_files(bare: Path, key: PrivateKey) -> None:
    with pytest.raises(InputError, match="no claim about files"):
        sign(bare, key, release_id="x", sequence=1, claims=[(commitments.PREDICATE_TYPE, {"time": "2026-01-02T00:00:00Z", "earlier": []})])
    other = manifest.statement("x", {"sha256": "ab" * 32}, "urn:x", {})
    with pytest.raises(UnsafeReleaseError, match="another type"):
        commitments.loads(other, FILE)


def test_times_are_read_in_one_form_only() -> None:
    assert strictjson.read_time("2026-01-02T03:04:05Z") == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    for wrong in ("2026-01-02T03:04:05+00:00", "2026-01-02 03:04:05Z", "2026-1-2T3:4:5Z", "2026-13-02T03:04:05Z", "", None, 7):
        with pytest.raises(ValueError, match=r"time|month"):
            strictjson.read_time(wrong)
