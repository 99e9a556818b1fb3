"""Looking at a release without a key: everything is shown, nothing crashes, nothing is believed."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from signed_release import CLAIMS, FILES, MOMENT
from sigstore_fakes import ISSUED_BY, ISSUED_BY_2, ISSUER, SIGNED, SIGNER, Sigstore

from safeflux_signing import commitments, dsse, keys
from safeflux_signing.commitments import Commitment, Fixed
from safeflux_signing.errors import InputError
from safeflux_signing.keys import PrivateKey
from safeflux_signing.sign import add_claim, cosign, sign
from safeflux_signing.unverified import MAX_LINES, SaidSigner, look


def test_it_shows_what_is_said_whoever_says_it(release: Path, key: PrivateKey) -> None:
    said = look(release)
    assert said.manifest is not None
    assert said.manifest.release is not None
    assert (said.manifest.release.release_id, said.manifest.release.sequence, said.manifest.release.created) == ("demo-1.0", 3, MOMENT)
    assert said.signer == SaidSigner(keys.hint(key.public_key()))
    assert said.cosigners == ()
    assert said.sizes == {name: len(data) for name, data in FILES.items()}
    assert [(claim.predicate_type, claim.predicate, claim.required) for claim in said.claims] == [(*claim, True) for claim in CLAIMS]
    assert said.troubles == ()


def test_it_judges_neither_files_nor_signature(release: Path, key: PrivateKey, other: PrivateKey) -> None:
    before = look(release)
    (release / "a-b").write_bytes(b"?")
    bundle = dsse.loads((release / "model.sig").read_bytes(), "")
    forged = dsse.Bundle(bundle.payload, dsse.seal(b"{}", other).signature, bundle.hint)
    (release / "model.sig").write_bytes(dsse.dumps(forged))
    assert look(release) == before


def test_what_is_missing_or_too_much_is_named(release: Path) -> None:
    lines = (release / "claims.jsonl").read_bytes().splitlines(keepends=True)
    (release / "claims.jsonl").write_bytes(lines[0] + b"{}\n")
    (release / "link").symlink_to("/")
    (release / "evil.py").write_text("")
    said = look(release)
    assert [finding.code for finding in said.troubles] == ["symlink", "bundle-shape", "claim-missing", "claim-missing"]
    assert said.troubles[1].what.startswith("line 2: ")
    assert "evil.py" in said.sizes
    (release / "model.sig").unlink()
    assert {finding.code for finding in look(release).troubles} >= {"signature-missing"}
    with pytest.raises(InputError):
        look(release / "nowhere")


def test_broken_files_are_troubles_and_not_errors(release: Path) -> None:
    rng = random.Random(7)
    kept = {name: (release / name).read_bytes() for name in ("model.sig", "claims.jsonl")}
    troubles = 0
    for _ in range(400):
        name = rng.choice(sorted(kept))
        data = bytearray(kept[name])
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(len(data))
            data[place : place + rng.choice([0, 1, 1, 9])] = rng.choice([b"", b"\x00", b"\xff", b"9", b"\n", b"[", b'"', b"\\ud800"])
        (release / name).write_bytes(data)
        troubles += bool(look(release).troubles)
        (release / name).write_bytes(kept[name])
    assert troubles > 300


def test_a_manifest_of_any_shape_is_a_trouble(release: Path, resign: Callable[[Path, Callable[[Any], Any]], None]) -> None:
    for edit in (
        lambda s: s["subject"][0]["annotations"]["safeflux"].update(requiredClaims=[{}]),
        lambda s: s["predicate"]["resources"][0].update(name="../../etc/passwd"),
        lambda s: s.update(predicate=None),
        lambda s: b"[" * 10**6,
    ):
        resign(release, edit)
        said = look(release)
        assert said.manifest is None
        assert said.troubles


def test_who_signed_beside_the_publisher_is_shown(release: Path, key: PrivateKey, other: PrivateKey) -> None:
    cosign(release, other, [key.public_key()])
    said = look(release)
    assert said.cosigners == (SaidSigner(keys.hint(other.public_key())),)
    assert said.troubles == ()
    with (release / "signatures.jsonl").open("ab") as stream:
        stream.write(dsse.dumps(dsse.seal(b"{}", key)) + b"\n{}\n")
    said = look(release)
    assert said.cosigners == (SaidSigner(keys.hint(other.public_key())), SaidSigner(keys.hint(key.public_key())))
    assert [(one.file, one.code) for one in said.troubles] == [
        ("signatures.jsonl", "cosignature-payload"),
        ("signatures.jsonl", "bundle-shape"),
    ]


def test_what_a_certificate_says_is_shown_and_what_it_signs(certified: Callable[..., Path], sigstore: Sigstore, key: PrivateKey) -> None:
    """Also when any verifier would refuse it: here no log has ever seen it."""
    release = certified(edit=lambda bundle: bundle["verificationMaterial"].update(tlogEntries=[]))
    line = (release / "model.sig").read_bytes()
    (release / "signatures.jsonl").write_bytes(line + b"\n")
    said = look(release)
    assert (said.signer, said.cosigners, said.troubles) == (SaidSigner(None, SIGNER, ISSUER), (SaidSigner(None, SIGNER, ISSUER),), ())
    assert said.manifest is not None
    assert {entry.name for entry in said.manifest.entries} == set(FILES)
    long = "https://" + "x" * 300
    assert look(certified(identity="a@b", issuer=long[:100])).signer == SaidSigner(None, "a@b", long[:100])


def _chain(release: Path, certificate: x509.Certificate) -> None:
    """Put the certificate where those stand that come with their authorities', in place of the publisher's key."""
    bundle = json.loads((release / "model.sig").read_bytes())
    der = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
    bundle["verificationMaterial"] = {"x509CertificateChain": {"certificates": [{"rawBytes": der}, {"rawBytes": "AA=="}]}}
    (release / "model.sig").write_text(json.dumps(bundle))


def _certificate(key: PrivateKey, *extensions: x509.ExtensionType, name: str = "a lab") -> x509.Certificate:
    said = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    builder = x509.CertificateBuilder(said, said, key.public_key(), 1, SIGNED, SIGNED + timedelta(1))  # type: ignore[arg-type]
    for extension in extensions:
        builder = builder.add_extension(extension, False)
    return builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]


def test_certificates_of_other_authorities_are_read_too(release: Path, key: PrivateKey) -> None:
    _chain(release, _certificate(key))
    said = look(release)
    assert (said.signer, said.troubles) == (SaidSigner(None, "CN=a lab"), ())
    assert said.manifest is not None
    named = x509.SubjectAlternativeName([x509.RFC822Name("a@b"), x509.DNSName("c")])
    text = b"https://" + b"x" * 200
    for value, issuer in (
        (x509.UnrecognizedExtension(ISSUED_BY, text), text.decode()),
        (x509.UnrecognizedExtension(ISSUED_BY_2, bytes([12, 129, len(text)]) + text), text.decode()),
        (x509.UnrecognizedExtension(ISSUED_BY_2, b"\x0c"), "\x0c"),
        (x509.UnrecognizedExtension(ISSUED_BY_2, b"\x0c\x01\xff"), "\\xff"),
    ):
        _chain(release, _certificate(key, named, value))
        assert look(release).signer == SaidSigner(None, "a@b, c", issuer)
    _chain(release, _certificate(key, name=""))
    assert look(release).signer == SaidSigner(None, "nobody")
    _chain(release, _certificate(key, x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"?")))
    said = look(release)
    assert (said.signer, said.manifest, said.troubles[0].code) == (None, None, "bundle-shape")


def test_broken_certificates_are_troubles_and_not_errors(certified: Callable[..., Path]) -> None:
    rng = random.Random(7)
    release = certified()
    good = json.loads((release / "model.sig").read_bytes())
    der = base64.b64decode(good["verificationMaterial"]["certificate"]["rawBytes"])
    troubles = 0
    for _ in range(300):
        data = bytearray(der)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        good["verificationMaterial"]["certificate"]["rawBytes"] = base64.b64encode(data).decode()
        (release / "model.sig").write_text(json.dumps(good))
        troubles += bool(look(release).troubles)
    assert 30 < troubles < 300
    for odd in ({"rawBytes": 7}, {"rawBytes": "?"}, {}, [], None, {"rawBytes": ""}):
        good["verificationMaterial"]["certificate"] = odd
        (release / "model.sig").write_text(json.dumps(good))
        assert look(release).troubles


def test_what_a_claim_is_about_is_shown(bare: Path, key: PrivateKey, other: PrivateKey) -> None:
    line = commitments.seal(Commitment("policy demo", Fixed("ab" * 32, MOMENT)), key)
    sign(bare, key, release_id="x", sequence=1, commitment=line)
    add_claim(bare, other, [key.public_key()], ("urn:x", {"found": 1}))
    fixed, added = look(bare).claims
    assert (fixed.digests, fixed.required) == ({"sha256": "ab" * 32}, True)
    assert isinstance(added.digests, dict)
    assert (set(added.digests), added.signer, added.required) == ({"sha256", "dirHash1"}, SaidSigner(keys.hint(other.public_key())), False)


@pytest.mark.parametrize("name", ["claims.jsonl", "signatures.jsonl"])
def test_of_a_file_of_nothing_but_lines_the_beginning_is_read(release: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, read = look(release), []
    loads = dsse.loads
    monkeypatch.setattr(dsse, "loads", lambda line, file: read.append(file) or loads(line, file))
    kept = (release / "claims.jsonl").read_bytes()
    (release / name).write_bytes(b"{}\n" * MAX_LINES + kept)
    said = look(release)
    assert read.count(name) == MAX_LINES
    assert [one.code for one in said.troubles if one.file == name].count("too-large") == 1
    assert "claim-missing" not in {one.code for one in said.troubles}
    assert said.claims == (() if name == "claims.jsonl" else before.claims)
    (release / name).write_bytes(b"{}\n" * MAX_LINES)
    assert "too-large" not in {one.code for one in look(release).troubles}
    (release / name).write_bytes(b"\n" * 10**7)
    assert len(look(release).troubles) <= MAX_LINES + 4
