"""Signatures without a key that is kept: Sigstore's, whose certificate says who signed, by whom that was attested, for ten minutes.

Verified offline, by the package sigstore (the extra ``sigstore``), against a trusted root that the user has as a file: that
an authority in it issued the certificate, that the certificate was good when a log or a time-stamping authority in it saw the
signature, and that the log holds the signature. Who must have signed, and who must have attested it, stands in the trust
file; without both, any account of any provider would do. For ``model.sig`` and for claims, and not for co-signatures: of these
different keys are counted, and whoever has an account has as many as there are minutes. Such signatures cannot be compared byte by
byte: what was signed, its signature and the certificate are bound by one another, and what logs and time stamps say of them can be
said in more than one way.

``seal`` is the other direction, for whoever signs so (``keyless_signing.py``): nothing is written that could not be read here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography import x509

from safeflux_signing import dsse, keys, signers, smallfiles, strictjson
from safeflux_signing.errors import SigningError, refusal
from safeflux_signing.strictjson import Json

if TYPE_CHECKING:
    from safeflux_signing.trust import TrustedIdentity, TrustStore

MAX_ROOT = 4 << 20


@dataclass
class _Who:
    """Sigstore's hook: asked, once the certificate has proved good, whether its holder is trusted."""

    identities: tuple[TrustedIdentity, ...]
    file: str
    found: list[TrustedIdentity] = field(default_factory=list)

    def verify(self, cert: x509.Certificate) -> None:
        from sigstore.errors import VerificationError
        from sigstore.verify import policy

        def fits(rule: Any) -> bool:
            try:
                rule.verify(cert)
            except (VerificationError, x509.ExtensionNotFound):
                return False
            return True

        named = [one for one in self.identities if fits(policy.Identity(identity=one.identity))]
        if not named:
            wanted = ", ".join(one.identity for one in self.identities)
            raise refusal("identity-unknown", self.file, "signed by somebody who is not trusted", expected=wanted, actual=_names(cert))
        self.found = [one for one in named if fits(policy.AnyOf([policy.OIDCIssuer(one.issuer), policy.OIDCIssuerV2(one.issuer)]))]
        if not self.found:
            wanted = ", ".join(one.issuer for one in named)
            raise refusal(
                "identity-issuer", self.file, f"{named[0].identity} was attested by another issuer than is trusted", expected=wanted
            )


class Signed(NamedTuple):
    """Who signed what, with the key of which certificate, and when a log saw it (None where only time stamps say when that was)."""

    identity: TrustedIdentity
    key: keys.PublicKey
    payload: bytes
    logged: datetime | None


def signer(data: bytes, store: TrustStore, file: str) -> Signed:
    """Who of ``store``'s identities signed the bundle ``data``.

    Raises InputError: signer-missing without the package sigstore, trust-unreadable, trust-invalid (the trusted root);
    UnsafeReleaseError (certificate-key among others); BadSignatureError: signature-invalid, log-invalid; UntrustedKeyError:
    certificate-untrusted, identity-unknown, identity-issuer; RevokedError: certificate-expired, certificate-untimed.
    """
    payload, key, logged = _read(data, file)
    who = _Who(store.identities, file)
    if _verified(data, _root(store), who, file) != (dsse.PAYLOAD_TYPE, payload):
        raise refusal("bundle-shape", file, "two readers read two things in it")
    if store.entry(keys.key_id(key)):
        what = "the certificate is over a key that the trust file names as well, and one key cannot vouch in two names"
        raise refusal("certificate-key", file, what, actual=keys.key_id(key))
    return Signed(who.found[0], key, payload, logged)


def seal(payload: bytes, by: signers.Certified) -> bytes:
    """The bundle in which ``by`` signs ``payload``, as JSON in the one form this package writes.

    Raises InputError (signer-failed), also where it is no good bundle over ``payload``; what the log says, its maker has to check.
    """
    data, file = by.seal(payload), by.ident
    try:
        written = strictjson.dumps(strictjson.loads(data, file, dsse.MAX_VALUES))
        read = _read(written, file)[0]
    except SigningError as error:
        raise refusal("signer-failed", file, f"what the signer made cannot be verified: {error.findings[0].what}") from error
    if read != payload:
        raise refusal("signer-failed", file, "the signer signed something else than was to be signed")
    return written


def _read(data: bytes, file: str) -> tuple[bytes, keys.PublicKey, datetime | None]:
    """What is signed, by the certificate's key, and when a log says that it saw it. Neither log nor holder are looked at."""
    bundle = dsse.under_certificate(data, file)
    certificate, key = _certificate(bundle.der, file)
    if not keys.verifies(key, bundle.signature, dsse.pae(bundle.payload)):
        raise refusal("signature-invalid", file, "the signature does not fit its content")
    return bundle.payload, key, _time(bundle.material, certificate, file)


def _verified(data: bytes, root: Path, who: _Who, file: str) -> tuple[str, bytes]:
    """The type and payload that the bundle holds, once Sigstore has no objection."""
    try:
        from sigstore.errors import CertValidationError
        from sigstore.models import Bundle, TrustedRoot
        from sigstore.verify import Verifier
    except ImportError as error:
        raise refusal("keyless-missing", file, "the package sigstore is not installed") from error
    try:
        verifier = Verifier(trusted_root=TrustedRoot.from_file(str(root)))
    except Exception as error:  # whatever its parsers raise
        raise refusal("trust-invalid", str(root), f"not a trusted root of Sigstore: {error}") from error
    try:
        kind, payload = verifier.verify_dsse(Bundle.from_json(data), who)
    except SigningError:
        raise
    except CertValidationError as error:
        raise refusal("certificate-untrusted", file, f"the certificate is of no authority in the trusted root: {error}") from error
    except Exception as error:  # hostile input met a large library: whatever it stumbles over, the answer is no
        raise refusal("log-invalid", file, f"the log's part of the signature is wrong: {type(error).__name__} {error}") from error
    return str(kind), bytes(payload)


def _root(store: TrustStore) -> Path:
    assert store.sigstore_root is not None  # a store with identities has one
    path = store.home / store.sigstore_root
    smallfiles.read(path, MAX_ROOT, "trust-unreadable")
    return path


def _certificate(der: bytes, file: str) -> tuple[x509.Certificate, keys.PublicKey]:
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
        _valid(certificate)  # a year that there is not is found only when somebody asks
    except Exception as error:  # hostile input met a large library, whose errors have no common root
        raise refusal("bundle-shape", file, f"not a certificate: {error}") from error
    try:
        return certificate, keys.checked(key, file)
    except SigningError as error:  # the signer's fault, and not the user's as with a key that was handed in
        [finding] = error.findings
        raise refusal("certificate-key", file, f"the certificate is over {finding.what}", actual=finding.actual) from error


def _time(material: dict[str, Json], certificate: x509.Certificate, file: str) -> datetime | None:
    """When a log, if it says so, saw the signature; whether it is true, Sigstore finds out. Raises the errors of a certificate that was not
    good then, and of a signature of which nothing says when it was seen."""
    entries, stamps = material["tlogEntries"], material.get("timestampVerificationData")
    entry = entries[0] if isinstance(entries, list) and entries and isinstance(entries[0], dict) else {}
    stamped = isinstance(stamps, dict) and bool(stamps.get("rfc3161Timestamps"))
    if not stamped and not (entry.get("inclusionPromise") and entry.get("integratedTime")):
        raise refusal("certificate-untimed", file, "nothing says when it was signed, and certificates of this kind are good for minutes")
    seen = entry.get("integratedTime")
    if isinstance(seen, str) and seen.isdecimal() and len(seen) < 12 and entry.get("inclusionPromise"):
        time, (begin, end) = datetime.fromtimestamp(int(seen), UTC), _valid(certificate)
        if not begin <= time <= end:
            what = "the certificate was not valid when the log saw the signature"
            raise refusal("certificate-expired", file, what, expected=f"{begin} to {end}", actual=time)
        return time
    return None


def _valid(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def _names(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # as above; and it is only to be told
        return "nobody"
    return ", ".join(str(one.value) for one in names)
