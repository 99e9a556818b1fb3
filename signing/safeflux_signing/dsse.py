"""The envelope around every signed statement: DSSE inside a Sigstore bundle, version 0.3, signed with a key or under a certificate.

Layout and signed bytes are those of OpenSSF Model Signing v1.0 section 4 and of the DSSE protocol 1.0. Read strictly:
exactly one signature, no key id (it would be unsigned), no field that this verifier would not look at. What a certificate and a log say
of a signature stands in keyless.py.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from safeflux_signing import keys, signers, strictjson
from safeflux_signing.errors import refusal

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_VALUES = 1000
"""JSON values of an envelope: some ten of one signed with a key, and of one with a certificate a path through a log of all releases."""


@dataclass(frozen=True)
class Bundle:
    """A signed ``payload``. ``hint`` is the unsigned help for finding the key."""

    payload: bytes
    signature: bytes
    hint: str


@dataclass(frozen=True)
class Certificate:
    """A ``payload`` signed under a certificate (X.509 in DER), with all ``material`` beside it: what a log and time stamps say."""

    payload: bytes
    signature: bytes
    der: bytes
    material: dict[str, strictjson.Json]


def pae(payload: bytes) -> bytes:
    """The bytes that are signed: DSSE's pre-authentication encoding, which binds the payload to its type."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def line(payload: bytes, by: signers.AnySigner) -> bytes:
    """``payload``, an in-toto statement in JSON, signed: the bundle as JSON in the one form this package writes, and the end of the line.

    Raises InputError (signer-failed).
    """
    if isinstance(by, signers.Certified):
        from safeflux_signing import keyless  # reads certificates, for which no key has to wait

        return keyless.seal(payload, by) + b"\n"
    return dumps(seal(payload, by)) + b"\n"


def seal(payload: bytes, key: signers.SigningKey) -> Bundle:
    """``payload``, an in-toto statement in JSON, signed with ``key``. Raises InputError (signer-failed)."""
    signer, message = signers.signer_of(key), pae(payload)
    public, signature = signer.public_key(), signer.sign(message)
    if not keys.verifies(public, signature, message):
        raise refusal(
            "signer-failed", "the signature", "what the signer made does not verify with its own public key", expected=keys.key_id(public)
        )
    return Bundle(payload, keys.lower(public, signature), keys.hint(public))


def dumps(bundle: Bundle) -> bytes:
    """The bundle as JSON, in the one form this package writes."""
    return strictjson.dumps(
        {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": bundle.hint}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": base64.b64encode(bundle.payload).decode("ascii"),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": base64.b64encode(bundle.signature).decode("ascii"), "keyid": ""}],
            },
        }
    )


def loads(data: bytes, file: str) -> Bundle:
    """Read a bundle; nothing in it is trusted yet. Raises UnsafeReleaseError with what is not as it must be."""
    bundle = _parts(data, file)
    hint = _hint(bundle["verificationMaterial"], file)
    return Bundle(*envelope(bundle["dsseEnvelope"], file), hint)


def certified(data: bytes, file: str) -> bool:
    """Whether ``data``, a bundle, is signed with a certificate. Raises UnsafeReleaseError for what is no JSON."""
    bundle = strictjson.loads(data, file, MAX_VALUES)
    material = bundle.get("verificationMaterial") if isinstance(bundle, dict) else None
    return isinstance(material, dict) and "certificate" in material


def payload_of(data: bytes, file: str) -> bytes:
    """What is signed in a bundle, with a key or under a certificate; nothing in it is trusted yet. Raises UnsafeReleaseError."""
    return under_certificate(data, file).payload if certified(data, file) else loads(data, file).payload


def under_certificate(data: bytes, file: str) -> Certificate:
    """Read a bundle of the other kind; nothing in it is trusted yet. Raises UnsafeReleaseError with what is not as it must be."""
    bundle = _parts(data, file)
    material = _fields(
        bundle["verificationMaterial"], "verificationMaterial", file, {"certificate", "tlogEntries"}, {"timestampVerificationData"}
    )
    der = decoded(_fields(material["certificate"], "the certificate", file, {"rawBytes"})["rawBytes"], "the certificate", file)
    return Certificate(*envelope(bundle["dsseEnvelope"], file), der, material)


def _parts(data: bytes, file: str) -> dict[str, strictjson.Json]:
    """The three parts of a bundle of the version that is read."""
    bundle = _fields(strictjson.loads(data, file, MAX_VALUES), "the bundle", file, {"mediaType", "verificationMaterial", "dsseEnvelope"})
    if bundle["mediaType"] != MEDIA_TYPE:
        raise refusal("bundle-version", file, "a bundle of another version", expected=MEDIA_TYPE, actual=bundle["mediaType"])
    return bundle


def envelope(value: strictjson.Json, file: str) -> tuple[bytes, bytes]:
    """(payload, signature) of a DSSE envelope; nothing in it is trusted yet. Raises UnsafeReleaseError."""
    envelope = _fields(value, "dsseEnvelope", file, {"payload", "payloadType", "signatures"})
    if envelope["payloadType"] != PAYLOAD_TYPE:
        raise refusal("payload-type", file, "a payload of another type", expected=PAYLOAD_TYPE, actual=envelope["payloadType"])
    signatures = envelope["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1:
        count = len(signatures) if isinstance(signatures, list) else "no list"
        raise refusal("signature-count", file, "not exactly one signature", expected="1", actual=count)
    signature = _fields(signatures[0], "the signature", file, {"sig"}, {"keyid"})
    if signature.get("keyid") not in (None, ""):
        raise refusal("signature-keyid", file, "an unsigned key id, which nothing may rely on", actual=signature["keyid"])
    return decoded(envelope["payload"], "payload", file), decoded(signature["sig"], "sig", file)


def written_one_way(bundle: Bundle, key: keys.PublicKey, data: bytes) -> bool:
    """Whether ``data`` is the one way in which this package writes ``bundle``, signed by ``key``: no byte can differ unseen."""
    return data == dumps(bundle) and bundle.signature == keys.lower(key, bundle.signature)


def signer(bundle: Bundle, public_keys: Sequence[keys.PublicKey], file: str, where: str) -> keys.PublicKey:
    """The one of ``public_keys`` that signed the bundle; ``where`` names the bundle in a sentence.

    The bundle's hint decides nothing but which error is raised: BadSignatureError (signature-invalid, signature-hint) or
    UntrustedKeyError (key-unknown).
    """
    message = pae(bundle.payload)
    key = next((key for key in public_keys if keys.verifies(key, bundle.signature, message)), None)
    hints = [keys.hint(key) for key in public_keys]
    if key is None and bundle.hint in hints:
        raise refusal("signature-invalid", file, f"the signature of {where} does not fit its content")
    if key is None:
        raise refusal("key-unknown", file, f"{where} is signed by none of the given keys", expected=", ".join(hints), actual=bundle.hint)
    if bundle.hint != keys.hint(key):
        raise refusal("signature-hint", file, f"{where} names another key than signed it", expected=keys.hint(key), actual=bundle.hint)
    return key


def _hint(material: strictjson.Json, file: str) -> str:
    if isinstance(material, dict) and not {"certificate", "x509CertificateChain"}.isdisjoint(material):
        raise refusal("signing-method", file, "signed with a certificate", expected="publicKey", actual=", ".join(material))
    fields = _fields(material, "verificationMaterial", file, {"publicKey"}, {"tlogEntries"})
    if fields.get("tlogEntries", []) != []:
        raise refusal("signing-method", file, "transparency log entries, which are not checked here", expected="none")
    key = fields["publicKey"]
    if isinstance(key, dict) and "rawBytes" in key:
        raise refusal("bundle-version", file, "a key inside the bundle, as before OpenSSF Model Signing 1.0", expected="publicKey.hint")
    hint = _fields(key, "publicKey", file, {"hint"})["hint"]
    if not isinstance(hint, str) or not hint:
        raise refusal("bundle-shape", file, "publicKey.hint is not a text")
    return hint


def _fields(
    value: strictjson.Json, what: str, file: str, required: set[str], optional: set[str] | None = None
) -> dict[str, strictjson.Json]:
    return strictjson.fields(value, what, file, "bundle-shape", required, optional or set())


def decoded(value: strictjson.Json, what: str, file: str) -> bytes:
    """Base64 in its one canonical form: a changed padding bit must not go unseen."""
    if isinstance(value, str) and value:
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            data = b""
        if base64.b64encode(data).decode("ascii") == value:
            return data
    raise refusal("bundle-shape", file, f"{what} is not canonical base64")
