"""A token's key wherever the command line names a private key; its PIN never in the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import release_fakes as fakes
from click.testing import CliRunner, Result
from softhsm import PIN

from safeflux.errors import PlanError
from safeflux.policy import load_policy
from safeflux.release import release, signing_key
from safeflux_cli.main import safeflux
from safeflux_cli.making import _signer
from safeflux_signing import keys
from safeflux_signing.pkcs11 import TokenSigner
from safeflux_signing.sign import sign


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(safeflux, list(map(str, arguments)), env={"HSM_PIN": PIN})


@pytest.fixture
def name(softhsm: Path) -> str:
    return f"pkcs11:token=safeflux;object=p256?module-path={softhsm}"


@pytest.fixture
def home(tmp_path: Path, name: str) -> Path:
    """A signed release, its publisher's public key, and the public half of the token's."""
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "model_index.json").write_text("{}")
    keys.new(tmp_path / "acme.key", None)
    sign(tmp_path / "release", keys.load_private(tmp_path / "acme.key"), release_id="demo-1", sequence=1)
    exported = call("keys", "export", name, "--passphrase-env", "HSM_PIN")
    assert exported.exit_code == 0, exported.output
    (tmp_path / "token.pub").write_text(exported.stdout)
    return tmp_path


def both(home: Path) -> tuple[str | Path, ...]:
    return ("--key", home / "acme.pub", "--key", home / "token.pub")


def test_it_signs_beside_a_publisher_and_claims_and_summarises(home: Path, name: str) -> None:
    release, pin = home / "release", ("--passphrase-env", "HSM_PIN")
    assert call("keys", "cosign", release, "--key", name, "--signed-by", home / "acme.pub", *pin).exit_code == 0
    (home / "result.json").write_text("{}")
    signed = ("--signed-by", home / "acme.pub", "--signed-by", home / "token.pub")
    assert call("claim", release, home / "result.json", "--type", "urn:x", "--key", name, *signed, *pin).exit_code == 0
    done = call("verify", release, *both(home), "--json", "--emit-vsa", home / "vsa.json", "--vsa-key", name, *pin)
    assert done.exit_code == 0, done.output
    said, key_id = json.loads(done.stdout), keys.key_id(keys.load_public(home / "token.pub"))
    assert said["cosigners"] == [key_id] == [claim["key"] for claim in said["claims"]]
    assert call("keys", "rotate", name, "--to", home / "acme.pub", "--out", home / "rotation", *pin).exit_code == 0
    shown = call("keys", "show", name, *pin)
    assert shown.stdout == f"key id  {key_id}\ntype    ECDSA P-256, private half\n"


def test_the_pin_comes_from_a_prompt_a_file_or_a_descriptor(home: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("keys", "show", name).exit_code == 2
    assert "without its PIN" in call("keys", "show", name).stderr
    (home / "pin").write_text(f"{PIN}\n")
    assert call("keys", "show", name, "--passphrase-file", home / "pin").exit_code == 0
    with (home / "pin").open("rb") as stream:
        assert call("keys", "show", name, "--passphrase-fd", str(stream.fileno())).exit_code == 0
    monkeypatch.setattr("safeflux_cli.keyfiles.asking", lambda: True)
    asked = CliRunner().invoke(safeflux, ["keys", "show", name], input=f"{PIN}\n")
    assert asked.exit_code == 0, asked.output
    assert f"PIN of {name.partition('?')[0]}" in asked.stderr
    assert PIN not in asked.output


@pytest.mark.parametrize(
    "command", [("keys", "show"), ("keys", "rotate", "--to", "x", "--out", "y"), ("release", "policies/demo.yaml", "--key")]
)
def test_a_pin_in_the_name_is_wrong_usage_and_is_not_repeated(command: tuple[str, ...]) -> None:
    done = call(*command, "pkcs11:object=x?module-path=/x.so&pin-value=98765")
    assert done.exit_code == 2
    assert "pin-value has no place" in done.output
    assert "98765" not in done.output


def test_a_policy_names_a_token_and_the_release_is_signed_by_it(tmp_path: Path, name: str) -> None:
    fakes.write_base(tmp_path / "base")
    (tmp_path / "policy.yaml").write_text(fakes.POLICY.replace("key: publisher.key", f'key: "{name}"'))
    policy = load_policy(tmp_path / "policy.yaml")
    assert policy.signing.key == name
    with pytest.raises(PlanError, match="without its PIN"):
        signing_key(policy.signing, tmp_path)
    signer, public = _signer(policy, None, PIN.encode())
    assert isinstance(signer, TokenSigner)
    assert public is None
    with fakes.faked():
        made = release(policy, out=tmp_path / "run", key=signer)
    (tmp_path / "token.pub").write_bytes(keys.public_pem(signer.public_key()))
    assert call("verify", made.release_dir, "--key", tmp_path / "token.pub", "--require", "commitment").exit_code == 0
    assert not [path for path in made.release_dir.rglob("*") if path.is_file() and b"pkcs11:" in path.read_bytes()]
