"""What a directory says of itself, with nothing of it checked: to look at before there is a key, never to act upon.

Read as strictly as for a verification, but without keys, and whoever signed, with a key or a certificate: what cannot be read is
listed, and the rest goes on. No signature is looked at, no certificate is asked who issued it, and no file is hashed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from safeflux_signing import claims as claim_file
from safeflux_signing import dsse, manifest, names, strictjson, tree
from safeflux_signing.errors import Finding, SigningError, found, refusal
from safeflux_signing.linefiles import MAX_LINES
from safeflux_signing.strictjson import Json
from safeflux_signing.verify import MAX_CLAIMS, MAX_SIGNATURE

if TYPE_CHECKING:
    from cryptography import x509

_ISSUERS = ("1.3.6.1.4.1.57264.1.8", "1.3.6.1.4.1.57264.1.1")  # where Sigstore's certificates say who attested the name, now and formerly

_T = TypeVar("_T")


@dataclass(frozen=True)
class SaidSigner:
    """Who is said to have signed: the ``hint`` names a key in the bundle's own, unsigned words; where there is a certificate instead,
    ``identity`` is whom it names, and ``issuer`` who attested that, None if it does not say."""

    hint: str | None
    identity: str | None = None
    issuer: str | None = None


@dataclass(frozen=True)
class SaidClaim:
    """``digests``, by algorithm: what it is about; ``required``: the manifest says that it must be there."""

    predicate_type: str
    predicate: Json
    payload_sha256: str
    digests: Json
    signer: SaidSigner
    required: bool


@dataclass(frozen=True)
class Said:
    """``manifest`` and ``signer`` are None if there is no signature that can be read; ``sizes``, in bytes, are those of the files
    that are there; ``troubles`` is what could not be read or may not be there."""

    signer: SaidSigner | None
    manifest: manifest.Manifest | None
    cosigners: tuple[SaidSigner, ...]
    claims: tuple[SaidClaim, ...]
    sizes: Mapping[str, int]
    troubles: tuple[Finding, ...]


def look(directory: Path) -> Said:
    """What ``directory`` says of itself; of many claims and co-signatures the first ``MAX_LINES`` of each, which is then a trouble.

    Raises InputError (directory-unreadable), and nothing for what is in it.
    """
    troubles: list[Finding] = []
    with tree.opened(directory) as root:
        scan = tree.scan(root)
        limits = {names.SIGNATURE: MAX_SIGNATURE, names.COSIGNATURES: MAX_SIGNATURE, names.CLAIMS: MAX_CLAIMS}
        data = {name: _read(root, name, limit, troubles) for name, limit in limits.items()}
    payload, signer, signed = _signature(data[names.SIGNATURE], troubles)

    def cosigner(line: bytes) -> SaidSigner:
        what, who = _opened(line, names.COSIGNATURES)
        if payload is not None and what != payload:
            troubles.append(found("cosignature-payload", names.COSIGNATURES, f"one signs something else than {names.SIGNATURE} does"))
        return who

    cosigners = tuple(_each(data[names.COSIGNATURES], names.COSIGNATURES, cosigner, troubles))
    claims = _claims(data[names.CLAIMS], signed, troubles)
    return Said(signer, signed, cosigners, claims, scan.sizes, (*scan.findings, *troubles))


def _read(root: int, name: str, limit: int, troubles: list[Finding]) -> bytes | None:
    try:
        return tree.read(root, name, limit)
    except SigningError as error:
        troubles += error.findings
        return None


def _signature(data: bytes | None, troubles: list[Finding]) -> tuple[bytes | None, SaidSigner | None, manifest.Manifest | None]:
    """What is signed, by whom, and the manifest in it; as far as they can be read."""
    payload = signer = signed = None
    if data is None:
        troubles.append(found("signature-missing", names.SIGNATURE, "there is no signature to be read"))
        return None, None, None
    try:
        payload, signer = _opened(data, names.SIGNATURE)
        signed = manifest.loads(payload, names.SIGNATURE, certified=signer.identity is not None)
    except SigningError as error:
        troubles += error.findings
    return payload, signer, signed


def _each(data: bytes | None, file: str, read: Callable[[bytes], _T], troubles: list[Finding]) -> Iterator[_T]:
    """Every line of ``data`` that ``read`` can read, of the first ``MAX_LINES``."""
    lines = data.removesuffix(b"\n").split(b"\n", MAX_LINES) if data else []
    if len(lines) > MAX_LINES:
        troubles.append(found("too-large", file, f"only its first {MAX_LINES} lines were read", expected=f"at most {MAX_LINES} lines"))
    for number, line in enumerate(lines[:MAX_LINES], 1):
        try:
            yield read(line)
        except SigningError as error:
            troubles += [replace(finding, what=f"line {number}: {finding.what}") for finding in error.findings]


def _claims(data: bytes | None, signed: manifest.Manifest | None, troubles: list[Finding]) -> tuple[SaidClaim, ...]:
    required = set(signed.release.required) if signed and signed.release else set()

    def claim(line: bytes) -> SaidClaim:
        payload, signer = _opened(line, names.CLAIMS)
        subject, predicate_type, predicate = manifest.read_statement(payload, names.CLAIMS)
        identity = manifest.RequiredClaim(predicate_type, hashlib.sha256(payload).hexdigest())
        about = subject["digest"] if signer.identity is None else claim_file.said(subject)
        return SaidClaim(predicate_type, predicate, identity.payload_sha256, about, signer, identity in required)

    claims = tuple(_each(data, names.CLAIMS, claim, troubles))
    there = {manifest.RequiredClaim(claim.predicate_type, claim.payload_sha256) for claim in claims}
    if not any((one.file, one.code) == (names.CLAIMS, "too-large") for one in troubles):  # else it may be in what was not read
        troubles += [
            found("claim-missing", names.CLAIMS, f"the required claim {one.predicate_type} is not there", expected=one.payload_sha256)
            for one in sorted(required - there, key=lambda one: (one.predicate_type, one.payload_sha256))
        ]
    return claims


def _opened(data: bytes, file: str) -> tuple[bytes, SaidSigner]:
    """The payload of a bundle and who is said to have signed it. Raises UnsafeReleaseError."""
    bundle = strictjson.loads(data, file, dsse.MAX_VALUES)
    material = bundle.get("verificationMaterial") if isinstance(bundle, dict) else None
    certificate = _certificate(material) if isinstance(material, dict) else None
    if certificate is None or not isinstance(bundle, dict):
        read = dsse.loads(data, file)
        return read.payload, SaidSigner(read.hint)
    payload, _ = dsse.envelope(bundle.get("dsseEnvelope"), file)
    return payload, _holder(dsse.decoded(certificate, "the certificate", file), file)


def _certificate(material: Mapping[str, Json]) -> Json:
    """The signer's certificate, in base64, whether it comes alone or with those of its authorities; None if there is none."""
    one = material.get("certificate")
    if isinstance(chain := material.get("x509CertificateChain"), dict) and isinstance(listed := chain.get("certificates"), list) and listed:
        one = listed[0]
    return one.get("rawBytes") if isinstance(one, dict) else None


def _holder(der: bytes, file: str) -> SaidSigner:
    from cryptography import x509  # for which no other release has to wait

    try:
        certificate = x509.load_der_x509_certificate(der)
        said = {one.oid.dotted_string: one.value for one in certificate.extensions}
        return SaidSigner(None, _names(certificate), next((_text(said[oid]) for oid in _ISSUERS if oid in said), None))
    except Exception as error:  # hostile input met a large library, whose errors have no common root
        raise refusal("bundle-shape", file, f"not a certificate: {error}") from error


def _names(certificate: x509.Certificate) -> str:
    """The names that count for Sigstore; where there are none, the one that other authorities give."""
    from cryptography import x509

    try:
        listed = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return certificate.subject.rfc4514_string() or "nobody"
    return ", ".join(str(one.value) for one in listed) or "nobody"


def _text(value: x509.ExtensionType) -> str:
    """A text as Sigstore writes it: in its newer extensions a UTF8String (tag, length, content), in the older one bare."""
    data = value.public_bytes()
    if data[:1] == b"\x0c" and len(data) > 1:
        data = data[2 + (data[1] & 0x7F if data[1] & 0x80 else 0) :]
    return data.decode("utf-8", "backslashreplace")
