"""The same release under the reference implementation of OpenSSF Model Signing.

By hand: model_signing verify key RELEASE --signature RELEASE/model.sig --public_key PUB
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from signed_release import CLAIMS, FILES, MOMENT, codes
from sigstore_fakes import ISSUER, SIGNER, Sigstore
from sigstore_services import write_config

from safeflux_signing import commitments, dsse, strictjson
from safeflux_signing.commitments import Commitment, Fixed
from safeflux_signing.errors import TamperedError, UnsafeReleaseError
from safeflux_signing.keys import KINDS, PrivateKey, load_private, load_public, new, public_pem
from safeflux_signing.sign import add_claim, cosign, sign
from safeflux_signing.signers import AnySigner
from safeflux_signing.trust import TrustedIdentity, TrustStore
from safeflux_signing.verify import verify

PYTHON = os.environ.get("SAFEFLUX_STOCK_SIGNING")

pytestmark = pytest.mark.skipif(
    not PYTHON,
    reason="to run it: python -m venv V && V/bin/pip install model-signing pyopenssl && SAFEFLUX_STOCK_SIGNING=V/bin/python pytest",
)


def _stock(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    # The stock tool warns about its own dependencies; our strictness about warnings is not for it.
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONWARNINGS", "PYTHONPATH")}
    command = [str(PYTHON), "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def _verify(release: Path, public: Path) -> subprocess.CompletedProcess[str]:
    return _stock("verify", "key", release, "--signature", release / "model.sig", "--public_key", public)


@pytest.fixture
def public(key: PrivateKey, tmp_path: Path) -> Path:
    path = tmp_path / "demo.pub"
    path.write_bytes(public_pem(key.public_key()))
    return path


def test_stock_accepts_what_we_sign(release: Path, public: Path) -> None:
    done = _verify(release, public)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_stock_reads_the_kinds_of_keys_that_are_said_to_be_stock(bare: Path, tmp_path: Path, kind: str) -> None:
    public = new(tmp_path / "demo.key", None, kind)
    sign(bare, load_private(tmp_path / "demo.key"), release_id="demo-1.0", sequence=1, claims=CLAIMS, name="demo")
    assert (_verify(bare, public).returncode == 0) == KINDS[kind].stock


def test_stock_accepts_a_release_that_several_have_signed(release: Path, public: Path, key: PrivateKey, other: PrivateKey) -> None:
    """And each of the further signatures, as a file of its own."""
    cosign(release, other, [key.public_key()])
    assert _verify(release, public).returncode == 0
    line = (release / "signatures.jsonl").read_bytes()
    (release / "signatures.jsonl").unlink()
    (release / "model.sig").write_bytes(line)
    public.write_bytes(public_pem(other.public_key()))
    assert _verify(release, public).returncode == 0


@pytest.mark.parametrize(
    "tamper",
    [
        lambda r: (r / "transformer/weights.safetensors").write_bytes(b"\x01" + FILES["transformer/weights.safetensors"][1:]),
        lambda r: (r / "evil.py").write_text(""),
        lambda r: (r / "empty.txt").unlink(),
    ],
    ids=["changed", "added", "removed"],
)
def test_stock_refuses_it_once_tampered(release: Path, public: Path, tamper: Callable[[Path], object]) -> None:
    tamper(release)
    assert _verify(release, public).returncode == 1


SIGN = """
import sys, model_signing
release, signature, key, how, algorithm, *ignored = sys.argv[1:]
hashing = model_signing.hashing.Config()
use = hashing.use_shard_serialization if how == "shards" else hashing.use_file_serialization
use(hashing_algorithm=algorithm)
hashing.set_ignored_paths(paths=[signature, *ignored], ignore_git_paths=False)
model_signing.signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(hashing).sign(release, signature)
"""


def _signed_by_stock(release: Path, key: Path, how: str = "files", algorithm: str = "sha256", *ignored: Path) -> None:
    """What the stock command line cannot be told, its library can."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONWARNINGS", "PYTHONPATH")}
    command = [str(PYTHON), "-c", SIGN, *map(str, (release, release / "model.sig", key, how, algorithm, *ignored))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", [kind for kind, what in KINDS.items() if what.stock])
def test_we_accept_stocks_signatures_by_every_kind_of_key_it_has(bare: Path, tmp_path: Path, kind: str) -> None:
    public = new(tmp_path / "stock.key", None, kind)
    done = _stock("sign", "key", bare, "--signature", bare / "model.sig", "--private_key", tmp_path / "stock.key")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {entry.name for entry in verify(bare, [load_public(public)]).entries} == FILES.keys()
    (bare / "a-b").write_text("changed")
    with pytest.raises(TamperedError):
        verify(bare, [load_public(public)])


@pytest.mark.parametrize(
    ("how", "algorithm", "code"),
    [
        ("files", "sha256", None),
        ("files", "blake2", "manifest-hash"),
        ("files", "blake3", "manifest-hash"),
        ("shards", "sha256", "manifest-method"),
        ("shards", "blake2", "manifest-method"),
    ],
)
def test_other_ways_to_digest_are_refused_by_name(bare: Path, tmp_path: Path, how: str, algorithm: str, code: str | None) -> None:
    """A manifest of shards need not list an empty file, and BLAKE is in no library here: one way to digest, and none to confuse."""
    public = new(tmp_path / "stock.key", None)
    _signed_by_stock(bare, tmp_path / "stock.key", how, algorithm)
    if code is None:
        assert verify(bare, [load_public(public)]).release is None
        return
    with pytest.raises(UnsafeReleaseError) as caught:
        verify(bare, [load_public(public)])
    assert {finding.code for finding in caught.value.findings} == {code}


def test_paths_that_stock_was_told_to_ignore_are_files_that_nobody_signed(bare: Path, tmp_path: Path) -> None:
    """The manifest itself is good: without these files, or when all are listed, the release verifies."""
    public = new(tmp_path / "stock.key", None)
    arguments = ("--signature", bare / "model.sig", "--private_key", tmp_path / "stock.key", "--ignore-paths", bare / "a")
    assert _stock("sign", "key", bare, *arguments).returncode == 0
    given = ("--signature", bare / "model.sig", "--public_key", public, "--ignore-paths", bare / "a")
    assert _stock("verify", "key", bare, *given).returncode == 0
    with pytest.raises(TamperedError) as caught:
        verify(bare, [load_public(public)])
    assert codes(caught.value) == {("a/x", "file-added")}
    (bare / "a" / "x").unlink()
    (bare / "a").rmdir()
    assert {entry.name for entry in verify(bare, [load_public(public)]).entries} == FILES.keys() - {"a/x"}


def test_stock_ignores_of_ours_what_it_is_told_to_and_we_do_not(release: Path, public: Path, key: PrivateKey) -> None:
    """Its ignore list names paths that the manifest does not have: then the rest of what we signed verifies."""
    (release / "notes").mkdir()
    (release / "notes" / "x.txt").write_text("not signed")
    assert _verify(release, public).returncode == 1
    given = ("--signature", release / "model.sig", "--public_key", public, "--ignore-paths", release / "notes")
    assert _stock("verify", "key", release, *given).returncode == 0
    with pytest.raises(TamperedError, match="file-added"):
        verify(release, [key.public_key()])


def test_stock_accepts_a_release_with_a_commitment_and_an_auditors_claim(
    bare: Path, public: Path, key: PrivateKey, other: PrivateKey
) -> None:
    line = commitments.seal(Commitment("policy", Fixed("ab" * 32, MOMENT)), key)
    sign(bare, key, release_id="demo-1.0", sequence=1, claims=CLAIMS, commitment=line)
    add_claim(bare, other, [key.public_key()], ("urn:audit", {"found": 0}))
    assert _verify(bare, public).returncode == 0
    assert len(verify(bare, [key.public_key(), other.public_key()]).claims) == len(CLAIMS) + 2


def test_stock_and_we_read_a_signature_without_a_key_alike(bare: Path, tmp_path: Path, key: PrivateKey) -> None:
    """Made by neither: a trusted root, a certificate and a log of the test's own."""
    pytest.importorskip("sigstore", reason="sigstore is not installed: pip install 'safeflux[sigstore]'")
    sign(bare, key, release_id="x", sequence=1)
    statement = json.loads(dsse.loads((bare / "model.sig").read_bytes(), "x").payload)
    del statement["subject"][0]["annotations"]
    sigstore, config = Sigstore(), tmp_path / "config.json"
    write_config(sigstore, config).with_suffix(".root").rename(tmp_path / "root.json")
    (bare / "model.sig").write_bytes(sigstore.sign(strictjson.dumps(statement)))
    store = TrustStore(identities=(TrustedIdentity(SIGNER, ISSUER, "Acme"),), sigstore_root="root.json", home=tmp_path)
    assert verify(bare, store).publisher == "Acme"
    done = _by_name(bare, config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _by_name(bare, config, "x").returncode == 1


def _by_name(release: Path, config: Path, who: str = SIGNER) -> subprocess.CompletedProcess[str]:
    named = ("--identity", who, "--identity_provider", ISSUER, "--trust_config", config)
    return _stock("verify", "sigstore", release, "--signature", release / "model.sig", *named)


def test_stock_accepts_what_we_sign_without_a_key(bare: Path, keyless: AnySigner, tmp_path: Path) -> None:
    """Offline, by the client trust config of the instance: with a commitment, claims, and what we say of a release."""
    line = commitments.seal(Commitment("policy", Fixed("ab" * 32, MOMENT)), keyless)
    sign(bare, keyless, release_id="demo-1.0", sequence=1, name="demo", claims=CLAIMS, commitment=line)
    config = tmp_path / "sigstore.json"
    done = _by_name(bare, config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _by_name(bare, config, "x").returncode == 1
    (bare / "a-b").write_text("changed")
    assert _by_name(bare, config).returncode == 1


def test_we_accept_what_stock_signs_and_nothing_it_leaves_out(bare: Path, tmp_path: Path) -> None:
    path = tmp_path / "stock.key"
    new(path, None)
    arguments = ("--signature", bare / "model.sig", "--private_key", path)
    done = _stock("sign", "key", bare, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    keys = [load_private(path).public_key()]
    verified = verify(bare, keys)
    assert {entry.name for entry in verified.entries} == FILES.keys()
    assert verified.release is None
    (bare / ".gitignore").write_text("stock does not look here")
    assert _verify(bare, path.with_suffix(".pub")).returncode == 0
    with pytest.raises(TamperedError, match="gitignore: a file that was not signed"):
        verify(bare, keys)
