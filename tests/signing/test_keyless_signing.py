"""Who keeps no key signs like anybody else, and what Sigstore answers is believed no more than what any signer says."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from signed_release import CLAIMS, FILES, MOMENT
from sigstore_fakes import ACME, Sigstore
from sigstore_services import Services, said, unreachable

from safeflux_signing import commitments, dsse, signers, strictjson, trustchanges
from safeflux_signing.commitments import Commitment, Fixed
from safeflux_signing.keynames import SigstoreName
from safeflux_signing.keys import PrivateKey
from safeflux_signing.sign import cosign, sign
from safeflux_signing.signers import AnySigner
from safeflux_signing.trust import TrustStore
from safeflux_signing.verify import verify

pytest.importorskip("sigstore", reason="sigstore is not installed: pip install 'safeflux[sigstore]'")

pytestmark = pytest.mark.usefixtures("offline")
PROMISE = Commitment("policy", Fixed("ab" * 32, MOMENT))


def test_what_it_signs_verifies_as_the_word_of_whom_the_certificate_names(
    bare: Path, keyless: AnySigner, services: Services, acme: TrustStore
) -> None:
    line = commitments.seal(PROMISE, keyless)
    sign(bare, keyless, release_id="demo-1.0", sequence=3, name="demo", claims=CLAIMS, commitment=line)
    verified = verify(bare, acme)
    assert (verified.identity, verified.publisher) == (ACME, "Acme")
    assert verified.release is not None
    assert (verified.release.release_id, verified.release.sequence) == ("demo-1.0", 3)
    assert {entry.name for entry in verified.entries} == FILES.keys()
    assert [(claim.required, claim.identity, claim.publisher, claim.role) for claim in verified.claims] == [
        (True, ACME, "Acme", "publisher")
    ] * 4
    assert verified.claims[0].commitment == commitments.line(line)[0] == PROMISE
    assert services.asked == ["ca.invalid", *["log.invalid"] * 5], "a certificate is asked for once while it is good"


def test_a_certificate_that_runs_out_is_followed_by_another(bare: Path, keyless: AnySigner, services: Services, acme: TrustStore) -> None:
    """Between a commitment and its release may lie days."""
    services.begin = -timedelta(minutes=9, seconds=45)
    line = commitments.seal(PROMISE, keyless)
    sign(bare, keyless, release_id="demo-1.0", sequence=3, commitment=line)
    assert services.asked == ["ca.invalid", "log.invalid"] * 2
    verified = verify(bare, acme)
    assert verified.claims[0].key_id != verified.key_id


def other_log(services: Services) -> None:
    services.sigstore = replace(services.sigstore, log=Sigstore().log)


def other_authority(services: Services) -> None:
    services.sigstore = replace(services.sigstore, authority=Sigstore().authority)


FAULTS: dict[str, tuple[Callable[[Services], object], str]] = {
    "refused": (lambda services: services.answers.update({"ca.invalid": lambda: (401, {"message": "no"})}), "401"),
    "unreachable": (lambda services: services.answers.update({"ca.invalid": unreachable}), "no route to host"),
    "no log": (lambda services: services.answers.update({"log.invalid": lambda: (500, {})}), "500"),
    "nonsense": (lambda services: services.answers.update({"log.invalid": lambda: (201, {"x": {}})}), "KeyError"),
    "another payload": (lambda services: vars(services).update(logged=b"another"), "payload"),
    "another key": (lambda services: vars(services).update(certified=ec.generate_private_key(ec.SECP256R1())), "signature"),
    "not good yet": (lambda services: vars(services).update(begin=timedelta(minutes=1)), "expired|not valid|certificate"),
    "another log": (other_log, "log entry"),
    "another authority": (other_authority, "SCT|certificate|signature"),
}


@pytest.mark.parametrize("claimed", [True, False], ids=["at once", "in the midst"])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_goes_wrong_is_said_and_nothing_is_written(
    bare: Path, keyless: AnySigner, services: Services, fault: str, claimed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the claims are sealed already, and the certificate has run out before the manifest is."""
    spoil, words = FAULTS[fault]
    if claimed:
        spoil(services)
    else:
        services.begin = -timedelta(minutes=9, seconds=45)
        seal, sealed = type(keyless).seal, iter(range(9))  # type: ignore[union-attr]
        monkeypatch.setattr(
            type(keyless), "seal", lambda self, payload: (next(sealed) == len(CLAIMS) and spoil(services), seal(self, payload))[1]
        )
    code, what = said(lambda: sign(bare, keyless, release_id="demo-1.0", sequence=1, claims=CLAIMS))
    assert code == "signer-failed"
    assert any(word in what for word in words.split("|")), what
    assert {path.name for path in bare.rglob("*") if path.is_file()} == {name.rsplit("/", 1)[-1] for name in FILES}


class Sealing:
    """Somebody whose bundles are changed on their way."""

    ident = "somebody"

    def __init__(self, sealer: Any, edit: Callable[[Any], object]) -> None:
        self.sealer, self.edit = sealer, edit

    def seal(self, payload: bytes, /) -> bytes:
        bundle = json.loads(self.sealer.seal(payload))
        changed = self.edit(bundle)
        return changed if isinstance(changed, bytes) else json.dumps(bundle, indent=1).encode()


def other_payload(bundle: Any) -> None:
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(b"{}").decode()


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (other_payload, "the signature does not fit its content"),
        (lambda bundle: bundle["dsseEnvelope"].update(payloadType="text/plain"), "a payload of another type"),
        (lambda bundle: bundle["verificationMaterial"].pop("certificate"), "lacks certificate"),
        (lambda bundle: bundle["verificationMaterial"].update(tlogEntries=[]), "nothing says when it was signed"),
        (lambda bundle: bundle.update(more=1), "fields that this verifier does not know"),
        (lambda bundle: b"not JSON", "not valid JSON"),
    ],
)
def test_what_could_not_be_verified_is_not_written(keyless: AnySigner, edit: Callable[[Any], object], words: str) -> None:
    code, what = said(lambda: commitments.seal(PROMISE, Sealing(keyless, edit)))
    assert code == "signer-failed"
    assert words in what


def test_a_good_signature_of_something_else_is_not_written(keyless: Any) -> None:
    other = keyless.seal(dsse.payload_of(commitments.seal(replace(PROMISE, name="another"), keyless)[:-1], "f"))
    assert "something else" in said(lambda: commitments.seal(PROMISE, Sealing(keyless, lambda _: other)))[1]


def test_what_is_written_is_one_line_of_the_one_form(keyless: AnySigner) -> None:
    """However whoever signs writes it."""
    line = commitments.seal(PROMISE, Sealing(keyless, lambda _: None))
    assert line.count(b"\n") == 1
    assert line == strictjson.dumps(strictjson.loads(line, "f")) + b"\n"


def test_where_a_key_is_needed_it_is_none(release: Path, keyless: Any, key: PrivateKey) -> None:
    public = key.public_key()
    name = SigstoreName()
    for act in (
        lambda: cosign(release, keyless, [public]),
        lambda: signers.signer_of(keyless),
        lambda: signers.load_key(name),
        lambda: trustchanges.rotation([keyless], public),
    ):
        assert said(act)[0] == "key-wanted"
    assert not (release / "signatures.jsonl").exists()
