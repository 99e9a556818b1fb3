"""By which instance of Sigstore somebody signs, who vouches for whom: names, trust configs and identity tokens."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from signed_release import MOMENT
from sigstore_fakes import ACME, Sigstore
from sigstore_services import SERVICES, Services, said, token, unreachable, write_config

from safeflux_signing import commitments, keyless_signing, keys, signers
from safeflux_signing.commitments import Commitment, Fixed
from safeflux_signing.keynames import SigstoreName, named
from safeflux_signing.signers import AnySigner

pytest.importorskip("sigstore", reason="sigstore is not installed: pip install 'safeflux[sigstore]'")

pytestmark = pytest.mark.usefixtures("offline")
PROMISE = Commitment("policy", Fixed("ab" * 32, MOMENT))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (token(left=timedelta(minutes=-5)), "expired"),
        ("not.a.token", "malformed"),
        ("", "no identity token: none in SIGSTORE_ID_TOKEN"),
    ],
    ids=["expired", "none", "empty"],
)
def test_a_token_that_is_not_good_is_said_and_never_shown(
    keyless: AnySigner, services: Services, monkeypatch: pytest.MonkeyPatch, given: str, words: str
) -> None:
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", given)
    monkeypatch.setattr("sigstore.oidc.detect_credential", lambda: None)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    code, what = said(lambda: commitments.seal(PROMISE, keyless))
    assert code == "signer-failed"
    assert words in what
    assert not given or given not in what
    assert services.asked == []


def test_a_token_that_has_run_out_before_the_next_certificate_is_said(
    keyless: AnySigner, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.begin = -timedelta(minutes=9, seconds=45)
    commitments.seal(PROMISE, keyless)
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", token(left=-timedelta(hours=1)))
    assert "expired" in said(lambda: commitments.seal(PROMISE, keyless))[1]
    assert services.asked == ["ca.invalid", "log.invalid"]


def test_the_environment_comes_before_the_machine_and_that_before_a_person(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    class Issuer:
        def __init__(self, url: str) -> None:
            assert url == "https://oidc.invalid"

        def identity_token(self) -> str:
            return "a person's"

    config: Any = type(
        "Config", (), {"signing_config": type("Services", (), {"get_oidc_url": staticmethod(lambda: "https://oidc.invalid")})}
    )
    monkeypatch.setattr("sigstore.oidc.Issuer", Issuer)
    monkeypatch.setattr("sigstore.oidc.detect_credential", lambda: token("machine@acme.example"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert keyless_signing.identity_token(config).identity == ACME.identity
    monkeypatch.delenv("SIGSTORE_ID_TOKEN")
    assert keyless_signing.identity_token(config).identity == "machine@acme.example"
    monkeypatch.setattr("sigstore.oidc.detect_credential", lambda: None)
    assert keyless_signing.identity_token(config) == "a person's"


@pytest.fixture
def broken(tmp_path: Path, sigstore: Sigstore) -> Callable[[object], SigstoreName]:
    def make(change: object) -> SigstoreName:
        path = write_config(sigstore, tmp_path / "broken.json")
        path.write_bytes(change if isinstance(change, bytes) else json.dumps({**json.loads(path.read_text()), **change}).encode())  # type: ignore[dict-item]
        return SigstoreName(path)

    return make


@pytest.mark.parametrize(
    "change",
    [
        b"",
        b"{}",
        b"\xff",
        b"[" * 10**5,
        {"signingConfig": {}},
        {"signingConfig": {**SERVICES, "rekorTlogUrls": []}},
        {"trustedRoot": {"mediaType": "x"}},
    ],
)
def test_a_trust_config_that_is_none_is_found_before_anybody_is_asked(broken: Callable[[object], SigstoreName], change: object) -> None:
    assert said(lambda: signers.load(broken(change)))[0] == "signer-config"


def test_a_config_that_is_not_there_a_package_and_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert said(lambda: signers.load(SigstoreName(tmp_path / "none.json")))[0] == "signer-config"
    monkeypatch.setattr("sigstore.models.ClientTrustConfig.production", lambda: unreachable())
    assert said(lambda: signers.load(SigstoreName())) == (
        "signer-failed",
        "what the public Sigstore is today cannot be found out: ConnectionError no route to host",
    )
    for module in [*(name for name in sys.modules if name.startswith("sigstore.")), "sigstore"]:
        monkeypatch.setitem(sys.modules, module, None)
    assert said(lambda: signers.load(SigstoreName()))[0] == "keyless-missing"


def test_it_is_told_from_others_by_its_instance(sigstore: Sigstore, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    one, same = (signers.load(SigstoreName(write_config(sigstore, tmp_path / name))) for name in ("a.json", "elsewhere/b.json"))
    other = signers.load(SigstoreName(write_config(Sigstore(), tmp_path / "c.json")))
    assert signers.ident(one) == signers.ident(same) != signers.ident(other)
    key = keys.KINDS["p256"].make()
    assert signers.ident(key) == keys.key_id(key.public_key())


def test_its_name_says_by_which_instance() -> None:
    assert named("sigstore:") == SigstoreName() == SigstoreName().below(Path("/home/acme"))
    found = named("sigstore:~/acme/private.json")
    assert found == SigstoreName(Path("~/acme/private.json")) == named(found.written())
    assert str(found) == "sigstore:~/acme/private.json"
    assert named("sigstore:x.json").below(Path("/home/acme")) == SigstoreName(Path("/home/acme/x.json"))  # type: ignore[union-attr]
    assert signers.public_file(SigstoreName()) is None
    assert named("./sigstore:") == Path("./sigstore:")
