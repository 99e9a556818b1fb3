"""A key behind a program wherever the command line or a policy names a private key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import release_fakes as fakes
from click.testing import CliRunner, Result
from signing_program import name

from safeflux.policy import load_policy
from safeflux.release import release, signing_key
from safeflux_cli.main import safeflux
from safeflux_cli.making import _signer
from safeflux_signing import keys
from safeflux_signing.program import ProgramSigner
from safeflux_signing.sign import sign


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(safeflux, list(map(str, arguments)))


@pytest.fixture
def service(tmp_path: Path) -> str:
    keys.new(tmp_path / "service.key", None)
    return name("digest", tmp_path / "service.key", "base64")


def test_it_signs_beside_a_publisher_and_claims_and_summarises(tmp_path: Path, service: str) -> None:
    released = tmp_path / "release"
    released.mkdir()
    (released / "model_index.json").write_text("{}")
    acme, own = keys.new(tmp_path / "acme.key", None), tmp_path / "service.pub"
    sign(released, keys.load_private(tmp_path / "acme.key"), release_id="demo-1", sequence=1)
    assert call("keys", "cosign", released, "--key", service, "--signed-by", acme).exit_code == 0
    (tmp_path / "result.json").write_text("{}")
    signed = ("--signed-by", acme, "--signed-by", own)
    assert call("claim", released, tmp_path / "result.json", "--type", "urn:x", "--key", service, *signed).exit_code == 0
    done = call("verify", released, "--key", acme, "--key", own, "--json", "--emit-vsa", tmp_path / "vsa.json", "--vsa-key", service)
    assert done.exit_code == 0, done.output
    said, key_id = json.loads(done.stdout), keys.key_id(keys.load_public(own))
    assert said["cosigners"] == [key_id] == [claim["key"] for claim in said["claims"]]
    assert call("keys", "rotate", service, "--to", acme, "--out", tmp_path / "rotation").exit_code == 0
    assert call("keys", "show", service).stdout == f"key id  {key_id}\ntype    ECDSA P-256, private half\n"
    assert call("keys", "export", service).stdout == own.read_text()


def test_a_name_that_is_none_is_wrong_usage() -> None:
    done = call("keys", "show", "exec:digest acme.pub")
    assert done.exit_code == 2
    assert "exec:digest PUBLIC PROGRAM" in done.output


def test_a_policy_names_a_program_and_the_release_is_signed_through_it(tmp_path: Path, service: str) -> None:
    fakes.write_base(tmp_path / "base")
    near = service.replace(str(tmp_path / "service.pub"), "service.pub")
    assert near != service
    (tmp_path / "policy.yaml").write_text(fakes.POLICY.replace("key: publisher.key", f"key: {json.dumps(near)}"))
    policy = load_policy(tmp_path / "policy.yaml")
    assert policy.signing.key == service, "a relative path starts at the policy file"
    signer, public = _signer(policy, None, None)
    assert isinstance(signer, ProgramSigner)
    assert public == tmp_path / "service.pub"
    assert signing_key(policy.signing, tmp_path) == (signer, public)
    with fakes.faked():
        made = release(policy, out=tmp_path / "run", key=signer)
    assert call("verify", made.release_dir, "--key", public, "--require", "commitment").exit_code == 0
    assert not [path for path in made.release_dir.rglob("*") if path.is_file() and b"exec:" in path.read_bytes()]


def test_a_policys_name_that_is_none_is_said_before_anything_is_prepared(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(fakes.POLICY.replace("key: publisher.key", 'key: "exec:sha256 x y"'))
    done = call("release", tmp_path / "policy.yaml", "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert "what the program reads" in done.output
