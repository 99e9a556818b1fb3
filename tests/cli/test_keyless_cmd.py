"""Sigstore wherever the command line or a policy names a private key: it signs releases and claims, and nothing that needs a key."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jsonschema
import pytest
import release_fakes as fakes
from click.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parent.parent / "signing"))  # the stand-in for Sigstore serves two directories of tests
from sigstore_fakes import ISSUER, SIGNER, Sigstore
from sigstore_services import Services, token, write_config

from safeflux.errors import PlanError, StageError
from safeflux.policy import load_policy
from safeflux_cli import verify as verify_cmd
from safeflux_cli.main import safeflux
from safeflux_signing import keys, trustfile
from safeflux_signing.sign import sign
from safeflux_signing.trust import TrustedIdentity, TrustStore
from safeflux_signing.verify import verify

pytest.importorskip("sigstore", reason="sigstore is not installed: pip install 'safeflux[sigstore]'")


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(safeflux, list(map(str, arguments)))


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    """An instance whose trust config lies in ``sigstore.json``, and in ``trust.toml`` whom it certifies here."""
    sigstore = Sigstore()
    write_config(sigstore, tmp_path / "sigstore.json")
    sigstore.write_root(tmp_path / "root.json")
    store = TrustStore(identities=(TrustedIdentity(SIGNER, ISSUER, "Acme"),), sigstore_root="root.json")
    (tmp_path / "trust.toml").write_bytes(trustfile.dumps(store))
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", token())
    return Services(sigstore).attach(monkeypatch)


@pytest.fixture
def policy(services: Services, tmp_path: Path) -> Path:
    fakes.write_base(tmp_path / "base")
    path = tmp_path / "policy.yaml"
    path.write_text(fakes.POLICY.replace("key: publisher.key", 'key: "sigstore:sigstore.json"'))
    return path


def test_a_policy_names_it_and_the_release_says_by_whom_it_is_to_be_verified(policy: Path, services: Services, tmp_path: Path) -> None:
    assert load_policy(policy).signing.key == f"sigstore:{tmp_path / 'sigstore.json'}", "a relative path starts at the policy file"
    with fakes.faked():
        made = call("release", policy, "--out", tmp_path / "run")
    assert made.exit_code == 0, made.output
    release, trust = tmp_path / "run" / "release", tmp_path / "trust.toml"
    assert f"Verify   safeflux verify {release} --trust TRUST.toml  # certificate of {SIGNER}, attested by {ISSUER}\n" in made.stdout
    done = call("verify", release, "--trust", trust, "--require", "commitment", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["identity"] == {"identity": SIGNER, "issuer": ISSUER}
    assert [claim["identity"] for claim in said["claims"]] == [said["identity"]] * 4
    assert said["claims"][0]["commitment"]["time"] <= said["claims"][0]["logged"] <= said["claims"][1]["logged"]
    jsonschema.validate(said, json.loads((Path(verify_cmd.__file__).parent / "verify.schema.json").read_text()))
    assert ", logged 2" in call("verify", release, "--trust", trust).stdout
    assert not [path for path in tmp_path.joinpath("run").rglob("*") if path.is_file() and token().encode()[:60] in path.read_bytes()]

    services.asked.clear()
    with fakes.faked():
        again = call("release", policy, "--out", tmp_path / "run")
    assert again.exit_code == 0, again.output
    assert services.asked == [], "what is signed already stays as it is"


def test_a_release_that_could_not_be_signed_goes_on_with_a_new_token(policy: Path, services: Services, tmp_path: Path) -> None:
    arguments = ("release", policy, "--out", tmp_path / "run")
    services.answers["log.invalid"] = lambda: (500, {})
    with fakes.faked():
        first = call(*arguments)
    assert isinstance(first.exception, StageError)
    assert f"sigstore:{tmp_path / 'sigstore.json'}: Sigstore did not sign" in str(first.exception)
    assert not (tmp_path / "run" / "release").exists()
    services.answers.clear()
    with fakes.faked():
        assert call(*arguments).exit_code == 0


def test_a_config_that_is_none_is_said_before_anything_is_prepared(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "sigstore.json").write_text("{}")
    done = call("release", policy, "--out", tmp_path / "run")
    assert isinstance(done.exception, PlanError)
    assert "not a client trust config of Sigstore" in str(done.exception)
    assert not (tmp_path / "run" / "work" / "plan").exists()


def test_it_claims_beside_a_key_and_beside_itself(services: Services, tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "model_index.json").write_text("{}")
    (tmp_path / "result.json").write_text("{}")
    acme = keys.new(tmp_path / "acme.key", None)
    sign(tmp_path / "release", keys.load_private(tmp_path / "acme.key"), release_id="demo-1", sequence=1)
    name, claim = f"sigstore:{tmp_path / 'sigstore.json'}", ("claim", tmp_path / "release", tmp_path / "result.json", "--type")
    done = call(*claim, "urn:a", "--key", name, "--signed-by", acme)
    assert done.exit_code == 0, done.output
    assert f"under a certificate of {SIGNER}, attested by {ISSUER}\n" in done.stdout
    store = trustfile.read(tmp_path / "trust.toml")
    assert call("keys", "trust", acme, "--trust", tmp_path / "trust.toml").exit_code == 0
    assert call(*claim, "urn:b", "--key", name, "--signed-by", tmp_path / "trust.toml").exit_code == 0
    verified = verify(tmp_path / "release", trustfile.read(tmp_path / "trust.toml"))
    assert [(one.predicate_type, one.identity) for one in verified.claims] == [
        ("urn:a", store.identities[0]),
        ("urn:b", store.identities[0]),
    ]
    shown = call("verify", tmp_path / "release", "--trust", tmp_path / "trust.toml")
    assert "urn:a (added later by Acme, publisher)" in shown.stdout


def test_nobody_is_believed_by_a_trust_file_that_the_release_brings_along(services: Services, tmp_path: Path) -> None:
    release = tmp_path / "release"
    release.mkdir()
    for name in ("trust.toml", "root.json"):
        (release / name).write_bytes((tmp_path / name).read_bytes())
    sign(release, keys.KINDS["p256"].make(), release_id="demo-1", sequence=1)
    (tmp_path / "result.json").write_text("{}")
    name = f"sigstore:{tmp_path / 'sigstore.json'}"
    done = call("claim", release, tmp_path / "result.json", "--type", "urn:a", "--key", name, "--signed-by", release / "trust.toml")
    assert done.exit_code == 2
    assert "lies in the release that it is to vouch for" in done.output


@pytest.mark.parametrize(
    "command",
    [
        ["keys", "show", "sigstore:"],
        ["keys", "export", "sigstore:"],
        ["keys", "rotate", "sigstore:", "--to", "acme.pub", "--out", "statement"],
        ["keys", "cosign", ".", "--key", "sigstore:", "--signed-by", "acme.pub"],
        ["verify", ".", "--key", "acme.pub", "--emit-vsa", "/nonexistent/vsa", "--vsa-key", "sigstore:"],
    ],
)
def test_where_a_key_is_needed_that_is_said_and_nobody_asked(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.new(tmp_path / "acme.key", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    done = call(*("elsewhere" if part == "." else part for part in command))
    assert done.exit_code == 2
    assert "key-wanted" in done.output
    assert "pkcs11:" in done.output
