"""However the signed documents of a release are changed: they mean what they meant, exactly, or the release is refused.

In a release of this package no byte may differ. What means the same, and so has to be accepted, is this and nothing else: claims
in another order, or without those that the publisher does not require; co-signatures in another order, or fewer of them, as long
as there are as many as the user asks for. A signature by another tool may be written in any JSON that says the same.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import strategies as st
from mutating import bundles, edited, lined, single_bundles, tried
from signed_release import CLAIMS, MOMENT, fill

from safeflux_signing import dsse, strictjson
from safeflux_signing.errors import VerificationError
from safeflux_signing.keys import key_id
from safeflux_signing.sign import add_claim, cosign, sign
from safeflux_signing.trust import ROLES, Threshold, TrustedKey, TrustStore
from safeflux_signing.verify import Verified, verify

SIGNATURE, CLAIMED, COSIGNED = "model.sig", "claims.jsonl", "signatures.jsonl"
PUBLISHER, SECOND, AUDITOR = (ec.derive_private_key(number, ec.SECP256R1()) for number in (21, 22, 23))
TRUSTED = (
    TrustedKey(PUBLISHER.public_key(), "Acme"),
    TrustedKey(SECOND.public_key(), "Acme"),
    TrustedKey(AUDITOR.public_key(), "Auditors", "auditor"),
)


@dataclass(frozen=True)
class Signed:
    """A release in ``directory``; ``lines`` are all the bundles in its three side files, whose content is ``good``."""

    directory: Path
    good: dict[str, bytes]

    @property
    def lines(self) -> list[bytes]:
        return [line for data in self.good.values() for line in data.splitlines()]

    def with_another_end(self, name: str) -> list[bytes]:
        """The file ``name`` with more at its end, or with its last line changed."""
        *lines, last = self.good[name].splitlines(keepends=True)
        more = [last + line for line in (*self.lines, b"{}", b"\n")] + [line + b"\n" for line in single_bundles(last, within=False)]
        return [b"".join((*lines, end)) for end in more]

    def verdict(self, name: str, data: bytes, signatures: int = 1) -> Verified | None:
        """What comes of it with ``data`` for the file ``name``: None if it is refused, which only a VerificationError may do."""
        (self.directory / name).write_bytes(data)
        try:
            return verify(self.directory, TrustStore(TRUSTED, thresholds=(Threshold(signatures, ROLES),)), now=MOMENT)
        except VerificationError:
            return None


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    """Three claims that the publisher requires and one of the auditor's, with two co-signatures."""
    directory, keys = fill(tmp_path / "release"), [entry.key for entry in TRUSTED]
    sign(directory, PUBLISHER, release_id="demo-1.0", sequence=3, claims=CLAIMS, created=MOMENT)
    add_claim(directory, AUDITOR, keys, ("https://example.org/audit/v1", {"seen": 7}))
    for one in (SECOND, AUDITOR):
        cosign(directory, one, keys)
    return Signed(directory, {name: (directory / name).read_bytes() for name in (SIGNATURE, CLAIMED, COSIGNED)})


def kept(data: bytes, good: bytes) -> list[bytes] | None:
    """The lines of ``good`` of which ``data`` consists, none of them twice; None if anything else is in it, or nothing."""
    *lines, rest = data.split(b"\n")
    whole = lines and not rest and len(set(lines)) == len(lines) and set(lines) <= set(good.splitlines())
    return lines if whole else None


def test_no_change_of_the_signature_goes_unseen(signed: Signed) -> None:
    good = signed.good[SIGNATURE]
    ends = (b"\n", b"", b" ", b"\n\n", b"\r\n", b" \n")

    def check(mutant: bytes) -> bool:
        verified = signed.verdict(SIGNATURE, mutant)
        assert (verified is not None) == (mutant == good)
        return verified is not None

    structures = st.tuples(bundles(good), st.sampled_from(ends)).map(b"".join)
    first = [*(one + b"\n" for one in (*single_bundles(good), *signed.lines)), *(good[:-1] + end for end in ends)]
    tried(check, edited(good, signed.lines) | structures, 200, first)


def test_of_the_claims_the_order_may_differ_and_those_that_nobody_requires(signed: Signed) -> None:
    good = signed.good[CLAIMED]
    required = set(good.splitlines()[: len(CLAIMS)])

    def check(mutant: bytes) -> bool:
        lines, verified = kept(mutant, good), signed.verdict(CLAIMED, mutant)
        assert (verified is not None) == (lines is not None and required <= set(lines))
        if verified and lines:
            payloads = [hashlib.sha256(dsse.loads(line, CLAIMED).payload).hexdigest() for line in lines]
            assert [claim.payload_sha256 for claim in verified.claims] == payloads
        return verified is not None

    tried(check, edited(good, signed.lines) | lined(good, signed.lines), 200, signed.with_another_end(CLAIMED))


def test_of_the_co_signatures_the_order_may_differ_and_their_number_as_far_as_the_user_allows(signed: Signed) -> None:
    good = signed.good[COSIGNED]
    signers = dict(zip(good.splitlines(), (key_id(one.public_key()) for one in (SECOND, AUDITOR)), strict=True))

    def check(change: tuple[bytes, int]) -> bool:
        mutant, wanted = change
        lines, verified = kept(mutant, good), signed.verdict(COSIGNED, mutant, wanted)
        assert (verified is not None) == (lines is not None and 1 + len(lines) >= wanted)
        if verified and lines:
            assert verified.cosigners == tuple(signers[line] for line in lines)
        return verified is not None

    pairs = [b"".join(line + b"\n" for line in lines) for lines in product((*signed.lines, b""), repeat=2)]
    first = ((mutant, 1) for mutant in (*pairs, *signed.with_another_end(COSIGNED)))
    tried(check, st.tuples(edited(good, signed.lines) | lined(good, signed.lines), st.integers(1, 3)), 200, first)


@pytest.fixture
def foreign(tmp_path: Path) -> Signed:
    """A release that says nothing of itself, as another tool signs."""
    directory = fill(tmp_path / "release")
    sign(directory, PUBLISHER, release_id="x", sequence=1)
    statement = json.loads(dsse.loads((directory / SIGNATURE).read_bytes(), SIGNATURE).payload)
    del statement["subject"][0]["annotations"]
    data = dsse.dumps(dsse.seal(strictjson.dumps(statement), PUBLISHER))
    (directory / SIGNATURE).write_bytes(data)
    return Signed(directory, {SIGNATURE: data})


def meaning(data: bytes) -> Any:
    """What every reader of JSON sees in a bundle, with what may be left out put in; None where readers could differ."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a name twice")
        return dict(pairs)

    try:
        bundle = json.loads(data.decode(), object_pairs_hook=once)
        bundle["verificationMaterial"].setdefault("tlogEntries", [])
        signature = bundle["dsseEnvelope"]["signatures"][0]
        signature["keyid"] = "" if signature.get("keyid") is None else signature["keyid"]
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return None
    return bundle


def test_a_signature_by_another_tool_may_be_written_in_any_way_that_says_the_same(foreign: Signed) -> None:
    good = foreign.good[SIGNATURE]

    def check(mutant: bytes) -> bool:
        verified = foreign.verdict(SIGNATURE, mutant)
        assert (verified is not None) == (meaning(mutant) == meaning(good))
        return verified is not None

    tried(check, edited(good) | bundles(good), 200, single_bundles(good))
