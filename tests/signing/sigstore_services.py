"""The services of a Sigstore in miniature, for those who sign by it: the authority and the log, as they answer over HTTP.

No socket is opened: what would go out over one is answered in its place, by what ``requests`` calls to send it.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from sigstore_fakes import ISSUER, SIGNER, Holder, Sigstore

from safeflux_signing.errors import InputError

_SERVICE = {"majorApiVersion": 1, "validFor": {"start": "2020-01-01T00:00:00Z"}, "operator": "example"}
SERVICES = {
    "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
    "caUrls": [{"url": "https://ca.invalid", **_SERVICE}],
    "oidcUrls": [{"url": "https://oidc.invalid", **_SERVICE}],
    "rekorTlogUrls": [{"url": "https://log.invalid", **_SERVICE}],
    "rekorTlogConfig": {"selector": "ANY"},
    "tsaUrls": [],
}


def said(act: Callable[[], object]) -> tuple[str, str]:
    """The code and the words with which ``act`` is refused, for a reason of its caller's."""
    with pytest.raises(InputError) as caught:
        act()
    [finding] = caught.value.findings
    return finding.code, finding.what


def unreachable() -> tuple[int, object]:
    """What a service answers to which there is no way."""
    import requests

    raise requests.ConnectionError("no route to host")


def write_config(sigstore: Sigstore, path: Path) -> Path:
    """The client trust config by which ``sigstore`` is signed with."""
    root = json.loads(sigstore.write_root(path.with_suffix(".root")).read_text())
    kind = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
    path.write_text(json.dumps({"mediaType": kind, "trustedRoot": root, "signingConfig": SERVICES}))
    return path


def token(identity: str = SIGNER, issuer: str = ISSUER, left: timedelta = timedelta(minutes=5)) -> str:
    """An identity token that is good for as long as is ``left``. Nobody has signed it: the package leaves that to the authority."""
    now = datetime.now(UTC)
    claims = {"aud": "sigstore", "sub": identity, "iss": issuer}
    times = {"iat": int((now - timedelta(hours=1)).timestamp()), "exp": int((now + left).timestamp())}
    parts = ({"alg": "HS256", "typ": "JWT"}, claims | times, "a signature")
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)


@dataclass
class Services:
    """What answers. ``certified``: whose key it certifies instead of the one that is asked for; ``logged``: the payload that it says it
    has logged instead; ``begin``: since when its certificates have been good; ``answers``, by host: what it answers before that."""

    sigstore: Sigstore
    certified: Holder | None = None
    logged: bytes | None = None
    begin: timedelta = timedelta()
    answers: dict[str, Callable[[], tuple[int, object]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def answer(self, url: str, headers: Any, body: Any) -> tuple[int, object]:
        host = url.split("/")[2]
        self.asked.append(host)
        if host in self.answers:
            return self.answers[host]()
        assert url in ("https://ca.invalid/api/v2/signingCert", "https://log.invalid/api/v1/log/entries"), url
        return self._certify(headers, json.loads(body)) if host == "ca.invalid" else self._log(json.loads(body))

    def _certify(self, headers: Any, asked: Any) -> tuple[int, object]:
        said = headers["Authorization"].split(".")[1]
        who = json.loads(base64.urlsafe_b64decode(said + "=" * (-len(said) % 4)))
        request = x509.load_pem_x509_csr(base64.b64decode(asked["certificateSigningRequest"]))
        begin = datetime.now(UTC).replace(microsecond=0) + self.begin
        certificate = self.sigstore.certify(self.certified or request, who["sub"], who["iss"], begin, True)
        chain = [one.public_bytes(serialization.Encoding.PEM).decode() for one in (certificate, self.sigstore.root)]
        return 201, {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}

    def _log(self, asked: Any) -> tuple[int, object]:
        assert (asked["kind"], asked["apiVersion"]) == ("dsse", "0.0.1")
        proposed = asked["spec"]["proposedContent"]
        envelope = json.loads(proposed["envelope"])
        payload, signature = (base64.b64decode(one) for one in (envelope["payload"], envelope["signatures"][0]["sig"]))
        certificate = x509.load_pem_x509_certificate(base64.b64decode(proposed["verifiers"][0]))
        entry = self.sigstore.entry(self.sigstore.body(self.logged or payload, signature, certificate), datetime.now(UTC))
        proof = entry["inclusionProof"]
        return 201, {
            "an id": {
                "body": entry["canonicalizedBody"],
                "integratedTime": int(entry["integratedTime"]),
                "logID": base64.b64decode(entry["logId"]["keyId"]).hex(),
                "logIndex": int(entry["logIndex"]),
                "verification": {
                    "signedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"],
                    "inclusionProof": {
                        "logIndex": 0,
                        "treeSize": 1,
                        "hashes": [],
                        "rootHash": base64.b64decode(proof["rootHash"]).hex(),
                        "checkpoint": proof["checkpoint"]["envelope"],
                    },
                },
            }
        }

    def attach(self, monkeypatch: pytest.MonkeyPatch) -> Services:
        """Answer in place of the network."""
        import requests

        def send(adapter: object, request: requests.PreparedRequest, **_: object) -> requests.Response:
            response = requests.Response()
            response.status_code, said = self.answer(str(request.url), request.headers, request.body)
            response.raw, response.request, response.url = io.BytesIO(json.dumps(said).encode()), request, str(request.url)
            return response

        monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
        return self
