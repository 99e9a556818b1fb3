"""The command a user of a release runs: its exit codes, what it prints, and that it needs nothing heavy."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec

from safeflux_cli.verify import verify
from safeflux_signing import trustfile
from safeflux_signing.keys import key_id, load_public, public_pem
from safeflux_signing.sign import sign
from safeflux_signing.trust import TrustedIdentity, TrustedKey, TrustStore

CLAIM = ("https://example.org/report/v1", {"verdict": "passed"})


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A signed release, its public key beside it as demo.pub, another one as other.pub."""
    directory = tmp_path / "release"
    (directory / "vae").mkdir(parents=True)
    (directory / "vae" / "weights.safetensors").write_bytes(bytes(1000))
    (directory / "model_index.json").write_text("{}")
    key = ec.generate_private_key(ec.SECP256R1())
    sign(directory, key, release_id="demo-1.0", sequence=1, claims=[CLAIM], created=datetime(2026, 1, 2, tzinfo=UTC))
    (tmp_path / "demo.pub").write_bytes(public_pem(key.public_key()))
    (tmp_path / "other.pub").write_bytes(public_pem(ec.generate_private_key(ec.SECP256R1()).public_key()))
    return directory


def run(release: Path, *options: str, key: str = "demo.pub") -> Result:
    return CliRunner().invoke(verify, [str(release), "--key", str(release.parent / key), *options])


def test_a_good_release_is_praised_in_a_few_lines(release: Path) -> None:
    done = run(release)
    assert done.exit_code == 0
    assert done.stderr == ""
    for said in (
        "verified",
        "demo-1.0, sequence 1, signed 2026-01-02 00:00:00 UTC",
        CLAIM[0],
        key_id(load_public(release.parent / "demo.pub")),
    ):
        assert said in done.stdout
    assert run(release, "-q").output == ""


def test_each_kind_of_trouble_has_its_exit_code_and_names_the_file(release: Path) -> None:
    def refused(code: int, file: str) -> None:
        for options in ((), ("-q",)):
            done = run(release, *options)
            assert (done.exit_code, done.stdout) == (code, "")
            assert f"  {file}: " in done.stderr

    weights, claims, signature = release / "vae/weights.safetensors", release / "claims.jsonl", release / "model.sig"
    weights.write_bytes(bytes(999) + b"\x01")
    refused(10, "vae/weights.safetensors")
    weights.write_bytes(bytes(1000))
    kept = claims.read_bytes()
    claims.unlink()
    refused(14, "claims.jsonl")
    claims.write_bytes(kept)
    kept = signature.read_bytes()
    signature.unlink()
    refused(11, "model.sig")
    signature.write_bytes(kept.replace(b'"sig":"', b'"sig":"AAAA'))
    refused(11, "model.sig")
    signature.write_text("{}")
    refused(16, "model.sig")
    signature.write_bytes(kept)
    (release / "link").symlink_to(weights)
    refused(16, "link")
    (release / "link").unlink()
    assert run(release).exit_code == 0


def test_without_the_right_key_it_says_how_to_give_one(release: Path) -> None:
    none = CliRunner().invoke(verify, [str(release)])
    other = run(release, key="other.pub")
    for done in (none, other):
        assert done.exit_code == 12
        assert "--key PUB.pem" in done.stderr
    assert run(release, "--key", str(release.parent / "other.pub")).exit_code == 0


@pytest.mark.parametrize(
    "arguments", [["nowhere"], [], ["{release}", "--key", "nowhere.pub"], ["{release}", "--key", "{release}/vae"], ["--what"]]
)
def test_wrong_usage_is_two(release: Path, arguments: list[str]) -> None:
    assert CliRunner().invoke(verify, [argument.format(release=release) for argument in arguments]).exit_code == 2


@pytest.fixture
def shipping(tmp_path: Path) -> Path:
    """A release that brings along its own public key, and a trust file that trusts it; links to both from outside."""
    directory = tmp_path / "release"
    directory.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    store = TrustStore((TrustedKey(key.public_key(), "Acme"),))
    for place in (directory, tmp_path):
        (place / "demo.pub").write_bytes(public_pem(key.public_key()))
        (place / "trust.toml").write_bytes(trustfile.dumps(store))
    rooted = TrustStore(store.entries, identities=(TrustedIdentity("a@b", "https://b", "B"),), sigstore_root="release/demo.pub")
    (tmp_path / "rooted.toml").write_bytes(trustfile.dumps(rooted))
    sign(directory, key, release_id="demo-1.0", sequence=1)
    for name in ("demo.pub", "trust.toml"):
        (tmp_path / f"link-{name}").symlink_to(directory / name)
    return directory


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        (["--key", "demo.pub"], False),
        (["--key", "release/demo.pub"], True),
        (["--key", "demo.pub", "--key", "release/demo.pub"], True),
        (["--key", "link-demo.pub"], True),
        (["--trust", "trust.toml"], False),
        (["--trust", "release/trust.toml"], True),
        (["--trust", "link-trust.toml"], True),
        (["--trust", "rooted.toml"], True),
    ],
)
@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_a_key_that_a_release_brings_along_is_never_trusted(
    shipping: Path, options: list[str], refused: bool, json_too: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shipping.parent)
    done = CliRunner().invoke(verify, ["release", *options, *json_too])
    assert done.exit_code == 2 * refused, done.output
    assert ("lies in the release that it is to vouch for" in done.stderr) == refused
    if refused:
        assert done.stdout == ""


def test_nor_is_the_usual_trust_file_if_that_lies_in_it(shipping: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, code in ((shipping.parent, 0), (shipping, 2)):
        monkeypatch.setenv("SAFEFLUX_TRUST", str(place / "trust.toml"))
        assert CliRunner().invoke(verify, [str(shipping)]).exit_code == code


def test_json_has_the_same_keys_whatever_is_found(release: Path) -> None:
    good = json.loads(run(release, "--json").stdout)
    (release / "vae" / "evil.py").write_text("")
    (release / "model_index.json").write_text("[]")
    done = run(release, "--json")
    bad = json.loads(done.stdout)
    assert done.stderr == ""
    assert good.keys() == bad.keys()
    assert (good["schema"], good["verified"], good["exit_code"], good["findings"]) == ("safeflux-verify/1", True, 0, [])
    assert good["release"] == {"id": "demo-1.0", "sequence": 1, "created": "2026-01-02T00:00:00Z"}
    assert [file["name"] for file in good["files"]] == ["model_index.json", "vae/weights.safetensors"]
    assert (bad["verified"], bad["exit_code"], done.exit_code, bad["release"]) == (False, 10, 10, None)
    assert [(finding["file"], finding["code"]) for finding in bad["findings"]] == [
        ("model_index.json", "file-changed"),
        ("vae/evil.py", "file-added"),
    ]
    assert all(finding.keys() == {"file", "code", "message", "expected", "actual", "remedy"} for finding in bad["findings"])


def test_a_hostile_name_cannot_steer_the_terminal(release: Path) -> None:
    (release / "a\x1b[2Jb\udcff").write_text("")
    (release / "b\nverified: x").write_text("")
    done = run(release)
    assert done.exit_code == 16
    assert "\x1b" not in done.output
    assert "\nverified" not in done.output
    assert json.loads(run(release, "--json").stdout)["findings"][0]["code"] == "name-control"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def seen(release: Path, *options: str, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    """What stands on stderr, ``stream``, after a verification."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        verify.main([str(release), "--key", str(release.parent / "demo.pub"), *options], standalone_mode=False)
    return stream.getvalue()


@pytest.mark.parametrize("size", [1000, 3_000_000, 9_000_001])
def test_a_terminal_shows_how_far_it_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "weights.safetensors").write_bytes(bytes(size))
    key = ec.generate_private_key(ec.SECP256R1())
    sign(tmp_path / "release", key, release_id="x", sequence=1)
    (tmp_path / "demo.pub").write_bytes(public_pem(key.public_key()))
    megabytes = -(-size // 10**6)
    bar, end = seen(tmp_path / "release", stream=Terminal(), monkeypatch=monkeypatch).split("\n")
    assert bar.startswith("\rhashing (MB)")
    assert f"100% {megabytes}/{megabytes}" in bar.rpartition("\r")[2]
    assert end == ""
    (tmp_path / "release" / "weights.safetensors").write_bytes(b"\1" * size)
    bar, verdict, *_ = seen(tmp_path / "release", stream=Terminal(), monkeypatch=monkeypatch).split("\n")
    assert "100%" in bar
    assert verdict.startswith("NOT verified: ")


@pytest.mark.parametrize(("options", "terminal"), [(["-q"], True), (["--json"], True), ([], False)])
def test_nobody_else_is_shown_that(release: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], terminal: bool) -> None:
    stream = Terminal() if terminal else io.StringIO()
    assert seen(release, *options, stream=stream, monkeypatch=monkeypatch) == ""


def test_it_runs_without_torch_and_the_like(release: Path) -> None:
    """Run as a program with those modules made unimportable, so that not even a guarded import succeeds."""
    program = (
        "import sys\n"
        "for name in ('torch', 'numpy', 'diffusers', 'transformers', 'scipy'): sys.modules[name] = None\n"
        "from safeflux_cli.verify import verify; verify()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", program, str(release), "--key", str(release.parent / "demo.pub")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("verified")
