"""Statements changed and signed again by the right key, as a thief of the key or a careless tool could: refused, or true.

A changed manifest is one that lists what lies on the disk; a changed claim is taken for what it says now, about these files; and
one that the publisher requires cannot be changed at all.
"""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import strategies as st
from mutating import plain, restructured, singles, tried, written
from signed_release import CLAIMS, FILES, MOMENT, codes, fill

from safeflux_signing import dsse, strictjson
from safeflux_signing.errors import TamperedError, VerificationError
from safeflux_signing.keys import PrivateKey
from safeflux_signing.sign import add_claim, sign
from safeflux_signing.verify import Verified, verify

PUBLISHER, AUDITOR = (ec.derive_private_key(number, ec.SECP256R1()) for number in (21, 23))
TRUSTED = [PUBLISHER.public_key(), AUDITOR.public_key()]
NAMES = tuple(FILES)
ON_DISK = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    directory = fill(tmp_path / "release")
    sign(directory, PUBLISHER, release_id="demo-1.0", sequence=3, name="demo", claims=CLAIMS, created=MOMENT)
    add_claim(directory, AUDITOR, TRUSTED, ("https://example.org/audit/v1", {"seen": [7, None], "by": {"whom": "us"}}))
    return directory


def verdict(directory: Path) -> Verified | None:
    """None if the release is refused, which only a VerificationError may do."""
    try:
        return verify(directory, TRUSTED, now=MOMENT)
    except VerificationError:
        return None


def statement(line: bytes) -> Any:
    return json.loads(dsse.loads(line, "x").payload)


def sealed(payload: bytes, key: PrivateKey) -> bytes:
    return dsse.dumps(dsse.seal(payload, key)) + b"\n"


def mend(changed: Any) -> None:
    """Have the digests of a manifest follow its list of files, where there is still a list and a place for them."""
    try:
        files = [(str(one["name"]), str(one["digest"])) for one in changed["predicate"]["resources"]]
        root = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in files))
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files))
        changed["subject"][0]["digest"] |= {"sha256": root.hexdigest(), "dirHash1": hashlib.sha256(lines.encode()).hexdigest()}
    except (TypeError, LookupError, ValueError):
        return


@st.composite
def relisted(draw: st.DrawFn, good: Any) -> Any:
    """A manifest that lists other files, in order and with the digests that belong to the list."""
    changed = copy.deepcopy(good)
    files = changed["predicate"]["resources"]
    for _ in range(draw(st.integers(1, 2))):
        kind, one = draw(st.sampled_from(("drop", "add", "rename", "exchange"))), draw(st.sampled_from(files))
        if kind == "drop":
            files.remove(one)
        elif kind == "exchange":
            other = draw(st.sampled_from(files))
            one["digest"], other["digest"] = other["digest"], one["digest"]
        else:
            name = draw(st.sampled_from(("0", "zz", "a/y", "a-b", "../x", "A-B", "a-b/x", "claims.jsonl")) | st.sampled_from(NAMES))
            files.append({**one, "name": name})
            if kind == "rename":
                files.remove(one)
    files.sort(key=lambda one: one["name"])
    mend(changed)
    return changed


def mended(changed: Any) -> Any:
    mend(changed)
    return changed


@pytest.mark.parametrize("claimed", [False, True], ids=["without claims", "with claims"])
def test_a_manifest_that_is_accepted_lists_what_lies_on_the_disk(signed: Path, claimed: bool) -> None:
    """Claims are about a list of files and bind it, too: without any it stands alone, as where the thief signs them anew."""
    if not claimed:
        sign(signed, PUBLISHER, release_id="demo-1.0", sequence=3, name="demo", created=MOMENT)
    good = statement((signed / "model.sig").read_bytes())

    def check(payload: bytes) -> bool:
        (signed / "model.sig").write_bytes(sealed(payload, PUBLISHER))
        if (verified := verdict(signed)) is None:
            return False
        assert sorted((entry.name, entry.sha256) for entry in verified.entries) == sorted(ON_DISK.items())
        [subject] = json.loads(payload)["subject"]
        said = subject.get("annotations", {}).get("safeflux")
        bound = ("sha256", "dirHash1") if said or "dirHash1" in subject["digest"] else ("sha256",)
        assert subject["digest"].items() >= {name: verified.digests[name] for name in bound}.items()
        assert (verified.release is None) == (said is None)
        if verified.release:
            assert (verified.release.release_id, verified.release.sequence) == (said["releaseId"], said["sequence"])
            required = {(one["predicateType"], one["payloadSha256"]) for one in said["requiredClaims"]}
            assert required == {(one.predicate_type, one.payload_sha256) for one in verified.claims if one.required}
        return True

    changes = restructured(good) | restructured(good).map(mended) | relisted(good)
    first = () if claimed else dict.fromkeys(map(plain, (*singles(good), *map(mended, singles(good)))))
    tried(check, changes.flatmap(written), 100 if claimed else 200, first)


def test_a_claim_that_is_accepted_says_what_it_says_about_these_files(signed: Path) -> None:
    good = (signed / "claims.jsonl").read_bytes().splitlines(keepends=True)
    statements = [statement(line) for line in good]

    def check(change: tuple[int, bytes]) -> bool:
        number, payload = change
        line = sealed(payload, AUDITOR if number == len(CLAIMS) else PUBLISHER)
        (signed / "claims.jsonl").write_bytes(b"".join((*good[:number], line, *good[number + 1 :])))
        verified = verdict(signed)
        if number < len(CLAIMS):
            assert (verified is not None) == (line == good[number])
        elif verified:
            claim, said = verified.claims[-1], json.loads(payload)
            assert (claim.predicate_type, claim.predicate) == (said["predicateType"], said["predicate"])
            assert said["subject"][0]["digest"].items() >= verified.digests.items()
        return verified is not None

    numbers = st.just(len(CLAIMS)) | st.integers(0, len(CLAIMS) - 1)
    changes = numbers.flatmap(lambda number: st.tuples(st.just(number), restructured(statements[number]).flatmap(written)))
    tried(check, changes, 200, [(number, plain(one)) for number in (0, len(CLAIMS)) for one in singles(statements[number])])


def test_a_mended_manifest_is_refused_for_its_files_alone(signed: Path) -> None:
    changed = statement((signed / "model.sig").read_bytes())
    good = json.dumps(changed)
    mend(changed)
    assert json.dumps(changed) == good
    changed["predicate"]["resources"][0]["digest"] = "00" * 32
    del changed["predicate"]["resources"][1]
    mend(changed)
    (signed / "model.sig").write_bytes(sealed(strictjson.dumps(changed), PUBLISHER))
    (signed / "claims.jsonl").unlink()
    with pytest.raises(TamperedError) as caught:
        verify(signed, TRUSTED)
    assert {code for _, code in codes(caught.value)} == {"file-changed", "file-added", "claim-missing"}
