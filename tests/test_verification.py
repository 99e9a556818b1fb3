"""What the publisher had fixed beforehand is held against what it says in the end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from safeflux.verify import AUDIT_STARTED, ERASURE_REPORT, shipped, sources, verify
from safeflux_signing import commitments, dsse, manifest
from safeflux_signing.claims import outcome, provenance, resource
from safeflux_signing.commitments import Commitment, Fixed
from safeflux_signing.errors import ClaimError
from safeflux_signing.keys import key_id
from safeflux_signing.sign import add_claim, sign
from safeflux_signing.strictjson import write_time
from safeflux_signing.trust import Role, TrustedIdentity, TrustedKey, TrustStore

KEY, SECOND, THIRD = (ec.derive_private_key(number, ec.SECP256R1()) for number in (7, 9, 8))
FIXED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
POLICY, OTHER = "ab" * 32, "cd" * 32


def made(internal: Mapping[str, object], report: str = POLICY, tests: str = POLICY) -> list[tuple[str, object]]:
    return [
        provenance(build_type="urn:x", builder="urn:x", parameters={}, internal=internal),
        outcome(configuration=[resource("urn:policy", {"sha256": tests})], passed=["x"]),
        (ERASURE_REPORT, {"policy": {"digest": report}, "findings": []}),
    ]


def started(seconds: int) -> dict[str, object]:
    return {AUDIT_STARTED: write_time(FIXED + timedelta(seconds=seconds))}


def signed(place: Path, claims: list[tuple[str, object]], *, fixed: bool = True, key: ec.EllipticCurvePrivateKey = KEY) -> Path:
    (place / "weights").write_bytes(b"1")
    line = commitments.seal(Commitment("policy x", Fixed(POLICY, FIXED)), key)
    sign(place, key, release_id="x", sequence=1, claims=claims, commitment=line if fixed else None)
    return place


@pytest.mark.parametrize("seconds", [0, 1, 10**6])
def test_what_was_kept_to_verifies(tmp_path: Path, seconds: int) -> None:
    [claim, *_] = verify(signed(tmp_path, made(started(seconds))), [KEY.public_key()]).claims
    assert claim.commitment == Commitment("policy x", Fixed(POLICY, FIXED))


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        (made(started(0), report=OTHER), "commitment-broken"),
        (made(started(0), tests=OTHER), "commitment-broken"),
        (made(started(-1)), "commitment-late"),
        (made({AUDIT_STARTED: "tomorrow"}), "commitment-late"),
        (made({"seed": 7}), "commitment-late"),
        (made(started(0))[1:], "commitment-late"),
        ([*made(started(0))[:2], (ERASURE_REPORT, {})], "commitment-broken"),
        ([*made(started(0))[:2], (ERASURE_REPORT, [])], "commitment-broken"),
        ([made(started(0))[0], outcome(configuration=[], passed=["x"])], "commitment-broken"),
    ],
)
def test_what_was_not_is_refused_although_it_is_well_signed(tmp_path: Path, claims: list[tuple[str, object]], code: str) -> None:
    with pytest.raises(ClaimError) as caught:
        verify(signed(tmp_path, claims), [KEY.public_key()])
    assert {finding.code for finding in caught.value.findings} == {code}
    assert caught.value.exit_code == 14
    verify(signed(tmp_path, claims, fixed=False), [KEY.public_key()])  # nothing was promised


def test_what_others_claim_is_not_held_against_the_publisher(tmp_path: Path) -> None:
    release = signed(tmp_path, made(started(0)))
    digests = verify(release, [KEY.public_key()]).digests
    theirs: dict[str, Any] = {"policy": {"digest": OTHER}}
    with (release / "claims.jsonl").open("ab") as stream:
        stream.write(dsse.dumps(dsse.seal(manifest.statement("x", digests, ERASURE_REPORT, theirs), THIRD)) + b"\n")
    assert len(verify(release, [KEY.public_key(), THIRD.public_key()]).claims) == 5


def report_about(policy: str) -> tuple[str, object]:
    return ERASURE_REPORT, {"policy": {"digest": policy}, "findings": []}


@pytest.mark.parametrize(
    ("added", "code"),
    [
        (report_about(OTHER), "commitment-broken"),
        (made(started(0), tests=OTHER)[1], "commitment-broken"),
        (made(started(-1))[0], "commitment-late"),
        (report_about(POLICY), None),
        (("urn:anything", {"policy": {"digest": OTHER}}), None),
    ],
)
def test_what_the_publisher_adds_afterwards_is_held_to_it_too(tmp_path: Path, added: tuple[str, object], code: str | None) -> None:
    """Else it could sign a release without a report, and put one about an easier policy beside it."""
    release = signed(tmp_path, made(started(0))[:1])
    add_claim(release, KEY, [KEY.public_key()], added)
    if code is None:
        assert len(verify(release, [KEY.public_key()]).claims) == 3
        return
    with pytest.raises(ClaimError) as caught:
        verify(release, [KEY.public_key()])
    assert [finding.code for finding in caught.value.findings] == [code]


def test_when_the_audit_was_begun_is_said_by_a_claim_that_cannot_be_taken_away(tmp_path: Path) -> None:
    release = signed(tmp_path, [])
    add_claim(release, KEY, [KEY.public_key()], made(started(0))[0])
    with pytest.raises(ClaimError, match="commitment-late"):
        verify(release, [KEY.public_key()])


@pytest.mark.parametrize(
    ("publisher", "role", "held"), [("Acme", "publisher", True), ("Acme", "auditor", False), ("Others", "publisher", False)]
)
def test_another_key_of_the_same_publisher_is_no_way_round_it(tmp_path: Path, publisher: str, role: Role, held: bool) -> None:
    release = signed(tmp_path, made(started(0)))
    store = TrustStore((TrustedKey(KEY.public_key(), "Acme"), TrustedKey(SECOND.public_key(), publisher, role)))
    add_claim(release, SECOND, [KEY.public_key()], report_about(OTHER))
    if held:
        with pytest.raises(ClaimError, match="commitment-broken"):
            verify(release, store)
    else:
        assert verify(release, store).claims[-1].publisher == publisher


@pytest.mark.parametrize("by", ["signer", "committer", "auditor"])
@pytest.mark.parametrize("names", [None, ("Acme", "Acme Research", "Auditors")], ids=["bare keys", "trust file"])
def test_whoever_signs_the_release_is_held_to_what_its_claims_had_fixed(tmp_path: Path, names: tuple[str, ...] | None, by: str) -> None:
    """Also where another key signed all that the release requires, and the signer's own first claim is the one added afterwards."""
    public = {"signer": KEY.public_key(), "committer": SECOND.public_key(), "auditor": THIRD.public_key()}
    release = signed(tmp_path, made(started(0)), key=SECOND)
    manifested = dsse.loads((release / "model.sig").read_bytes(), "model.sig").payload
    (release / "model.sig").write_bytes(dsse.dumps(dsse.seal(manifested, KEY)) + b"\n")
    trust = TrustStore(tuple(map(TrustedKey, public.values(), names))) if names else list(public.values())
    assert verify(release, trust).key_id == key_id(KEY.public_key())
    add_claim(release, {"signer": KEY, "committer": SECOND, "auditor": THIRD}[by], list(public.values()), report_about(OTHER))
    if by == "auditor":
        assert verify(release, trust).claims[-1].key_id == key_id(THIRD.public_key())
    else:
        with pytest.raises(ClaimError, match="commitment-broken"):
            verify(release, trust)


@pytest.mark.parametrize(
    ("file", "inside"),
    [
        ("release/publisher.pub", True),
        ("release/deep/../deep/er/x.pub", True),
        ("release", True),
        ("release/../publisher.pub", False),
        ("release-2/publisher.pub", False),
        ("link/publisher.pub", True),
        ("link.pub", True),
        ("chain.pub", True),
        ("round.pub", False),
        ("publisher.pub", False),
    ],
)
def test_what_lies_in_a_release_is_told_from_what_lies_beside_it(tmp_path: Path, file: str, inside: bool) -> None:
    (tmp_path / "release/deep/er").mkdir(parents=True)
    (tmp_path / "release-2").mkdir()
    (tmp_path / "link").symlink_to("release")
    (tmp_path / "link.pub").symlink_to("release/publisher.pub")
    (tmp_path / "chain.pub").symlink_to("link.pub")
    (tmp_path / "round.pub").symlink_to("round.pub")
    for directory in ("release", "link", "release-2/../release"):
        said = shipped(tmp_path / directory, [tmp_path / "publisher.pub", tmp_path / file])
        assert (said is not None and said.startswith(f"{tmp_path / file} lies in the release")) == inside


def test_where_trust_comes_from_is_known(tmp_path: Path) -> None:
    assert sources(TrustStore()) == []
    one = TrustedIdentity("a@b", "https://b", "B")
    assert sources(TrustStore(identities=(one,), sigstore_root="root.json", home=tmp_path)) == [tmp_path, tmp_path / "root.json"]
