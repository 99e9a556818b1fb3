"""An instance of Sigstore in miniature: an authority that certifies anybody, a log of certificates, a log of signatures.

Everything is signed as the real ones sign, by keys made for the test; ``write_root`` gives the file in which a user would
have their public halves. No code of the package sigstore is used here, so that it reads what it has not written.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from signed_release import codes

from safeflux_signing import dsse
from safeflux_signing.errors import SigningError
from safeflux_signing.trust import TrustedIdentity, TrustStore
from safeflux_signing.verify import verify

SHA256 = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
SIGNED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ISSUER = "https://accounts.example.org"
SIGNER = "release@acme.example"
NOW = datetime(2026, 6, 1, tzinfo=UTC)
ACME = TrustedIdentity(SIGNER, ISSUER, "Acme")
SCTS, ISSUED_BY, ISSUED_BY_2 = (x509.ObjectIdentifier(f"1.3.6.1.4.1.{tail}") for tail in ("11129.2.4.2", "57264.1.1", "57264.1.8"))


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _new() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


Holder = ec.EllipticCurvePrivateKey | x509.CertificateSigningRequest
"""Whose public key is certified."""


@dataclass
class Sigstore:
    """``authority`` certifies, ``witness`` logs certificates, ``log`` logs signatures.

    ``kept``: the key of all certificates, each of which has a new one without. The same four keys write the same bytes.
    """

    authority: ec.EllipticCurvePrivateKey = field(default_factory=_new)
    witness: ec.EllipticCurvePrivateKey = field(default_factory=_new)
    log: ec.EllipticCurvePrivateKey = field(default_factory=_new)
    kept: ec.EllipticCurvePrivateKey | None = None

    def __post_init__(self) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")])
        public = self.authority.public_key()
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self.root = (
            x509.CertificateBuilder(self.name, self.name, public, 1, SIGNED - timedelta(365), SIGNED + timedelta(3650))
            .add_extension(x509.BasicConstraints(True, 0), True)
            .add_extension(usage, True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
            .sign(self.authority, hashes.SHA256(), ecdsa_deterministic=True)
        )

    def write_root(self, path: Path) -> Path:
        start = {"start": "2020-01-01T00:00:00Z"}

        def log(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
            public = {"rawBytes": _b64(_der(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": start}
            identity = {"keyId": _b64(hashlib.sha256(_der(key)).digest())}
            return {"baseUrl": "https://log.invalid", "hashAlgorithm": "SHA2_256", "publicKey": public, "logId": identity}

        chain = {"certificates": [{"rawBytes": _b64(self.root.public_bytes(serialization.Encoding.DER))}]}
        subject = {"organization": "example", "commonName": "an authority"}
        authority = {"subject": subject, "uri": "https://ca.invalid", "certChain": chain, "validFor": start}
        kind = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
        root = {"mediaType": kind, "tlogs": [log(self.log)], "certificateAuthorities": [authority]}
        path.write_text(json.dumps({**root, "ctlogs": [log(self.witness)], "timestampAuthorities": []}))
        return path

    def certify(self, key: Holder, identity: str, issuer: str, begin: datetime, witnessed: bool) -> x509.Certificate:
        """A certificate for ten minutes, which the log of certificates has seen."""
        text = issuer.encode()
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        builder = (
            x509.CertificateBuilder(self.name, x509.Name([]), key.public_key(), 7, begin, begin + timedelta(minutes=10))
            .add_extension(usage, True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.public_key()), False)
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(identity)]), True)
            .add_extension(x509.UnrecognizedExtension(ISSUED_BY, text), False)
            .add_extension(x509.UnrecognizedExtension(ISSUED_BY_2, bytes([12, len(text)]) + text), False)
        )
        if not witnessed:
            return builder.sign(self.authority, hashes.SHA256(), ecdsa_deterministic=True)
        seen = builder.sign(self.authority, hashes.SHA256(), ecdsa_deterministic=True).tbs_certificate_bytes
        time = (int(begin.timestamp()) * 1000).to_bytes(8, "big")
        entry = hashlib.sha256(_der(self.authority)).digest() + len(seen).to_bytes(3, "big") + seen
        signature = self.witness.sign(b"\0\0" + time + b"\0\1" + entry + b"\0\0", SHA256)
        stamp = b"\0" + hashlib.sha256(_der(self.witness)).digest() + time + b"\0\0\4\3" + len(signature).to_bytes(2, "big") + signature
        listed = len(stamp).to_bytes(2, "big") + stamp
        listed = len(listed).to_bytes(2, "big") + listed
        return builder.add_extension(x509.UnrecognizedExtension(SCTS, bytes([4, len(listed)]) + listed), False).sign(
            self.authority, hashes.SHA256(), ecdsa_deterministic=True
        )

    def sign(
        self, payload: bytes, *, identity: str = SIGNER, issuer: str = ISSUER, begin: datetime = SIGNED,
        logged: datetime | None = None, witnessed: bool = True, edit: Callable[[dict[str, Any]], object] = lambda bundle: None,
    ) -> bytes:  # fmt: skip
        """A bundle as ``sigstore sign`` makes it, then changed by ``edit``. ``logged``: when the log saw it."""
        key = self.kept or _new()
        certificate = self.certify(key, identity, issuer, begin, witnessed)
        signature = key.sign(dsse.pae(payload), SHA256)
        body = self.body(payload, signature, certificate)
        bundle = {
            "mediaType": dsse.MEDIA_TYPE,
            "verificationMaterial": {
                "certificate": {"rawBytes": _b64(certificate.public_bytes(serialization.Encoding.DER))},
                "tlogEntries": [self.entry(body, logged or begin + timedelta(minutes=1))],
            },
            "dsseEnvelope": {
                "payload": _b64(payload),
                "payloadType": dsse.PAYLOAD_TYPE,
                "signatures": [{"sig": _b64(signature)}],
            },
        }
        edit(bundle)
        return json.dumps(bundle).encode()

    def body(self, payload: bytes, signature: bytes, certificate: x509.Certificate) -> bytes:
        """What the log keeps of a signed envelope: rekor's "dsse", version 0.0.1."""
        pem = _b64(certificate.public_bytes(serialization.Encoding.PEM))
        spec = {
            "envelopeHash": {"algorithm": "sha256", "value": "00" * 32},  # of JSON in some form: nobody can check it
            "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
            "signatures": [{"signature": _b64(signature), "verifier": pem}],
        }
        return json.dumps({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}, separators=(",", ":"), sort_keys=True).encode()

    def entry(self, body: bytes, time: datetime) -> dict[str, Any]:
        """The entry in a log that holds nothing else: its hash is the root of the tree."""
        log_id, root = hashlib.sha256(_der(self.log)).digest(), hashlib.sha256(b"\0" + body).digest()
        promised = {"body": _b64(body), "integratedTime": int(time.timestamp()), "logID": log_id.hex(), "logIndex": 0}
        promise = self.log.sign(json.dumps(promised, separators=(",", ":"), sort_keys=True).encode(), SHA256)
        note = f"log.invalid - 1\n1\n{_b64(root)}\n"
        signed = f"{note}\n\N{EM DASH} log.invalid {_b64(log_id[:4] + self.log.sign(note.encode(), SHA256))}\n"
        return {
            "logIndex": "0",
            "logId": {"keyId": _b64(log_id)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(int(time.timestamp())),
            "inclusionPromise": {"signedEntryTimestamp": _b64(promise)},
            "inclusionProof": {"logIndex": "0", "rootHash": _b64(root), "treeSize": "1", "hashes": [], "checkpoint": {"envelope": signed}},
            "canonicalizedBody": _b64(body),
        }


def refused(release: Path, store: TrustStore) -> set[tuple[str, str]]:
    """What ``release`` is refused for, long after it was signed: (file, code) of everything that the error lists."""
    with pytest.raises(SigningError) as caught:
        verify(release, store, now=NOW)
    return codes(caught.value)
