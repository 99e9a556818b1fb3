"""Claims come with the release, whole, and speak about these files and no others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from signed_release import CLAIMS, MOMENT, codes, fill

from safeflux_signing import claims, commitments, dsse, manifest
from safeflux_signing.errors import BadSignatureError, ClaimError, InputError, SigningError, TamperedError, UntrustedKeyError
from safeflux_signing.keys import PrivateKey, key_id
from safeflux_signing.sign import add_claim, sign
from safeflux_signing.trust import TrustedKey, TrustStore
from safeflux_signing.verify import verify

Refuse = Callable[[Path], SigningError]
FILE = "claims.jsonl"
AUDITED = "https://example.org/independent-audit/v1"


def _lines(release: Path) -> list[bytes]:
    return (release / FILE).read_bytes().splitlines(keepends=True)


def _line(release: Path, key: PrivateKey, signer: PrivateKey, predicate_type: str = AUDITED) -> bytes:
    """A claim about ``release`` (verified under ``key``) by ``signer``, as a third party would make it."""
    digests = verify(release, [key.public_key()]).digests
    return dsse.dumps(dsse.seal(manifest.statement("release", digests, predicate_type, {}), signer)) + b"\n"


@pytest.mark.parametrize("gone", range(len(CLAIMS)))
def test_a_stripped_claim_is_missed(release: Path, refused: Refuse, gone: int) -> None:
    lines = _lines(release)
    del lines[gone]
    (release / FILE).write_bytes(b"".join(lines))
    error = refused(release)
    assert isinstance(error, ClaimError)
    assert codes(error) == {(FILE, "claim-missing")}
    assert CLAIMS[gone][0] in error.findings[0].what


def test_all_claims_gone_are_all_missed(release: Path, refused: Refuse) -> None:
    (release / FILE).unlink()
    error = refused(release)
    assert isinstance(error, ClaimError)
    assert len(error.findings) == len(CLAIMS)


def test_claims_swapped_for_those_of_another_release_are_refused(release: Path, refused: Refuse, key: PrivateKey, tmp_path: Path) -> None:
    """The same publisher's better report, about other weights, does not pass for this one's."""
    better = fill(tmp_path / "better" / "release")
    (better / "a-b").write_text("other weights")
    sign(better, key, release_id="demo-2.0", sequence=4, claims=CLAIMS, created=MOMENT)
    lines = _lines(release)
    (release / FILE).write_bytes(b"".join([*lines[:2], *_lines(better)[2:]]))
    error = refused(release)
    assert isinstance(error, ClaimError)
    assert codes(error) == {(FILE, "claim-subject"), (FILE, "claim-missing")}
    shutil.copy(better / "model.sig", release / "model.sig")
    assert ("a-b", "file-changed") in codes(refused(release))


def test_a_claim_with_another_content_about_the_same_files_is_no_substitute(release: Path, refused: Refuse, key: PrivateKey) -> None:
    digests = verify(release, [key.public_key()]).digests
    predicate_type, _ = CLAIMS[2]
    fake = dsse.dumps(dsse.seal(manifest.statement("release", digests, predicate_type, {"verdict": "failed"}), key)) + b"\n"
    (release / FILE).write_bytes(b"".join([*_lines(release)[:2], fake]))
    assert codes(refused(release)) == {(FILE, "claim-missing")}


def test_a_third_party_adds_a_claim_without_touching_the_signature(release: Path, key: PrivateKey, other: PrivateKey) -> None:
    before = {name: (release / name).read_bytes() for name in (FILE, "model.sig")}
    assert add_claim(release, other, [key.public_key()], (AUDITED, {"found": 0.25})) == release / FILE
    assert (release / FILE).read_bytes().startswith(before[FILE])
    assert (release / "model.sig").read_bytes() == before["model.sig"]
    with pytest.raises(UntrustedKeyError) as caught:
        verify(release, [key.public_key()])
    assert codes(caught.value) == {(FILE, "key-unknown")}
    assert "line 4" in str(caught.value)
    added = verify(release, [key.public_key(), other.public_key()]).claims[-1]
    assert (added.predicate_type, added.key_id, added.required) == (AUDITED, key_id(other.public_key()), False)
    assert (added.predicate, added.publisher, added.role) == ({"found": 0.25}, "", "publisher")
    auditor = TrustStore((TrustedKey(key.public_key(), "Acme"), TrustedKey(other.public_key(), "Auditors Ltd", "auditor")))
    assert [(claim.publisher, claim.role) for claim in verify(release, auditor).claims[-2:]] == [
        ("Acme", "publisher"),
        ("Auditors Ltd", "auditor"),
    ]


@pytest.mark.parametrize(
    "again", [(AUDITED, {"found": 0.25}), (manifest.PREDICATE_TYPE, {}), (AUDITED, {1, 2}), (commitments.PREDICATE_TYPE, {})]
)
def test_a_claim_that_is_there_or_is_none_is_not_added(
    release: Path, key: PrivateKey, other: PrivateKey, again: tuple[str, object]
) -> None:
    add_claim(release, other, [key.public_key()], (AUDITED, {"found": 0.25}))
    before, both = (release / FILE).read_bytes(), [key.public_key(), other.public_key()]
    with pytest.raises((ClaimError, InputError)):
        add_claim(release, key, both, again)
    assert (release / FILE).read_bytes() == before


def test_nothing_is_claimed_of_a_release_that_is_not_what_was_signed(release: Path, key: PrivateKey, other: PrivateKey) -> None:
    (release / "a-b").write_text("changed")
    before = (release / FILE).read_bytes()
    with pytest.raises(TamperedError):
        add_claim(release, other, [key.public_key()], (AUDITED, {}))
    with pytest.raises(UntrustedKeyError):
        add_claim(release, other, [other.public_key()], (AUDITED, {}))
    assert (release / FILE).read_bytes() == before


def test_a_release_that_others_signed_gets_its_first_claim(bare: Path, key: PrivateKey, other: PrivateKey) -> None:
    sign(bare, key, release_id="x", sequence=0)
    add_claim(bare, other, [key.public_key()], (AUDITED, {}))
    assert [claim.predicate_type for claim in verify(bare, [key.public_key(), other.public_key()]).claims] == [AUDITED]


def test_a_claim_about_contents_only_does_not_bind_names(release: Path, refused: Refuse, key: PrivateKey) -> None:
    root = {"sha256": verify(release, [key.public_key()]).digests["sha256"]}
    with (release / FILE).open("ab") as stream:
        stream.write(dsse.dumps(dsse.seal(manifest.statement("release", root, AUDITED, {}), key)) + b"\n")
    assert codes(refused(release)) == {(FILE, "claim-subject")}


def test_repeated_claims_and_manifests_among_them_are_refused(release: Path, refused: Refuse, key: PrivateKey) -> None:
    manifest_line = _line(release, key, key, manifest.PREDICATE_TYPE)
    whole = b"".join(_lines(release))
    (release / FILE).write_bytes(whole + _lines(release)[0])
    assert codes(refused(release)) == {(FILE, "claim-repeated")}
    (release / FILE).write_bytes(whole + manifest_line)
    assert codes(refused(release)) == {(FILE, "predicate-type")}
    (release / FILE).write_bytes(whole + (release / "model.sig").read_bytes())
    assert codes(refused(release)) == {(FILE, "predicate-type")}


def test_a_changed_claim_and_a_changed_file_are_reported_together(release: Path, refused: Refuse) -> None:
    bundle = json.loads(_lines(release)[0])
    bundle["dsseEnvelope"]["payload"] = json.loads(_lines(release)[1])["dsseEnvelope"]["payload"]
    (release / FILE).write_bytes(json.dumps(bundle, sort_keys=True, separators=(",", ":")).encode() + b"\n" + b"".join(_lines(release)[1:]))
    error = refused(release)
    assert isinstance(error, BadSignatureError)
    assert codes(error) == {(FILE, "signature-invalid"), (FILE, "claim-missing")}
    (release / "a-b").write_text("2")
    assert ("a-b", "file-changed") in codes(refused(release))
    assert refused(release).exit_code == 10


def test_an_empty_claims_file_is_refused(bare: Path, refused: Refuse, key: PrivateKey) -> None:
    sign(bare, key, release_id="x", sequence=0)
    (bare / FILE).write_bytes(b"")
    assert codes(refused(bare)) == {(FILE, "json-not-canonical")}


def test_provenance_has_the_fields_of_slsa() -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    base = claims.resource("hub:model", {"sha256": "ab"}, "model")
    kind, predicate = claims.provenance(
        build_type="b", builder="t", parameters={"p": 1}, internal={"seed": 7}, dependencies=[base], versions={"t": "1"}, started=moment
    )
    assert kind == "https://slsa.dev/provenance/v1"
    assert predicate["buildDefinition"] == {
        "buildType": "b",
        "externalParameters": {"p": 1},
        "internalParameters": {"seed": 7},
        "resolvedDependencies": [{"uri": "hub:model", "digest": {"sha256": "ab"}, "name": "model"}],
    }
    assert predicate["runDetails"] == {"builder": {"id": "t", "version": {"t": "1"}}, "metadata": {"startedOn": "2026-01-02T00:00:00Z"}}


@pytest.mark.parametrize(
    ("tests", "result"),
    [
        ({"passed": ["a"]}, "PASSED"),
        ({"passed": ["a"], "warned": ["b"]}, "WARNED"),
        ({"passed": ["a"], "failed": ["b"]}, "FAILED"),
        ({}, "FAILED"),
    ],
)
def test_the_result_follows_from_the_tests(tests: dict[str, list[str]], result: str) -> None:
    kind, predicate = claims.outcome(configuration=[], url="https://example.org", **tests)
    assert kind == "https://in-toto.io/attestation/test-result/v0.1"
    assert predicate["result"] == result
    assert predicate["passedTests"] == tests.get("passed", [])
