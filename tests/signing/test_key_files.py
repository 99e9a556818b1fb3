"""Keys: made once, kept to their owner, readable by OpenSSL, never confused."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from signed_release import codes

from safeflux_signing import keys, pbes2
from safeflux_signing.errors import InputError

SECRET = "correct horse, bätteries".encode()
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")


def _code(error: pytest.ExceptionInfo[InputError]) -> str:
    ((_, code),) = codes(error.value)
    return code


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "locked.key"
    keys.new(path, SECRET)
    return path


def _write(path: Path, key: ec.EllipticCurvePrivateKey | ed448.Ed448PrivateKey, password: bytes | None = None) -> Path:
    hiding = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hiding))
    path.chmod(0o600)
    return path


def test_an_encrypted_key_opens_with_its_passphrase_only(locked: Path) -> None:
    private = keys.load_private(locked, SECRET)
    assert keys.load_public(locked.with_suffix(".pub")) == private.public_key()
    assert keys.kind(private.public_key()) == keys.KINDS["p256"]
    for passphrase, code in ((None, "passphrase-needed"), (b"wrong", "passphrase-wrong")):
        with pytest.raises(InputError) as error:
            keys.load_private(locked, passphrase)
        assert _code(error) == code


@needs_openssl
def test_openssl_reads_the_encrypted_key_and_sees_its_cost(locked: Path) -> None:
    command = ["openssl", "pkey", "-in", str(locked), "-passin", "env:PW", "-pubout"]
    shown = subprocess.run(command, env={**os.environb, b"PW": SECRET}, capture_output=True, check=True).stdout
    assert shown == locked.with_suffix(".pub").read_bytes()
    structure = subprocess.run(["openssl", "asn1parse", "-in", str(locked)], capture_output=True, text=True, check=True).stdout
    for part in ("PBES2", "PBKDF2", "hmacWithSHA256", "aes-256-cbc"):
        assert part in structure
    rounds = re.search(r"INTEGER +:([0-9A-F]+)", structure)
    assert rounds is not None
    assert int(rounds[1], 16) == pbes2.ROUNDS >= 600_000


def test_files_are_private_and_never_overwritten(tmp_path: Path) -> None:
    path, before = tmp_path / "demo.key", os.umask(0)
    try:
        public = keys.new(path, None)
    finally:
        os.umask(before)
    assert public == tmp_path / "demo.pub"
    assert (path.stat().st_mode & 0o777, public.stat().st_mode & 0o777) == (0o600, 0o644)
    content = path.read_bytes(), public.read_bytes()
    with pytest.raises(InputError) as error:
        keys.new(path, None)
    assert _code(error) == "key-exists"
    public.unlink()
    with pytest.raises(InputError):
        keys.new(path, None)
    assert path.read_bytes() == content[0]
    assert not public.exists()


def test_a_key_is_not_left_half_made(tmp_path: Path) -> None:
    (tmp_path / "demo.pub").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError) as error:
        keys.new(tmp_path / "demo.key", None)
    assert _code(error) == "key-exists"
    assert not (tmp_path / "demo.key").exists()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("name", "passphrase", "code"),
    [("missing/demo.key", None, "key-unwritable"), ("demo.pub", None, "key-exists"), ("demo.key", b"", "passphrase-empty")],
)
def test_keys_that_cannot_be_made(tmp_path: Path, name: str, passphrase: bytes | None, code: str) -> None:
    with pytest.raises(InputError) as error:
        keys.new(tmp_path / name, passphrase)
    assert _code(error) == code
    assert list(tmp_path.iterdir()) == []


def test_a_passphrase_for_an_open_key_is_no_obstacle(tmp_path: Path) -> None:
    keys.new(tmp_path / "open.key", None)
    private = keys.load_private(tmp_path / "open.key", b"not needed")
    assert private.public_key() == keys.load_public(tmp_path / "open.pub")


def test_a_key_others_can_read_is_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "open.key"
    keys.new(path, None)
    keys.load_private(path)
    assert caplog.text == ""
    path.chmod(0o640)
    keys.load_private(path)
    assert "chmod 600" in caplog.text


def test_the_id_is_the_hash_of_the_public_key_itself(tmp_path: Path, key: keys.PrivateKey, other: keys.PrivateKey) -> None:
    public = key.public_key()
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert keys.key_id(public) == hashlib.sha256(der).hexdigest() != keys.key_id(other.public_key())
    path = tmp_path / "spaced.pub"
    path.write_bytes(b"a comment\n" + keys.public_pem(public))
    assert keys.key_id(keys.load_public(path)) == keys.key_id(public)
    assert keys.kind(public).in_words == "ECDSA P-256"


def test_files_without_a_usable_key_say_so(tmp_path: Path) -> None:
    edwards = _write(tmp_path / "ed.key", ed448.Ed448PrivateKey.generate())
    bitcoin = _write(tmp_path / "k1.key", ec.generate_private_key(ec.SECP256K1()))
    junk = tmp_path / "junk"
    junk.write_bytes(b"\x00" * 100)
    huge = tmp_path / "huge"
    huge.write_bytes(b"x" * (keys.MAX_BYTES + 1))
    cases = [(edwards, "key-type"), (bitcoin, "key-type"), (junk, "key-unreadable"), (huge, "key-unreadable"), (tmp_path, "key-unreadable")]
    for path, code in cases:
        with pytest.raises(InputError) as error:
            keys.load_private(path)
        assert _code(error) == code, path
    public = tmp_path / "ed.pub"
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(ed448.Ed448PrivateKey.generate().public_key().public_bytes(serialization.Encoding.PEM, form))
    for path, code in [(public, "key-type"), (junk, "key-unreadable"), (edwards, "key-private"), (tmp_path / "none", "key-unreadable")]:
        with pytest.raises(InputError) as error:
            keys.load_public(path)
        assert _code(error) == code, path


def test_keys_made_elsewhere_are_read(tmp_path: Path) -> None:
    foreign = ec.generate_private_key(ec.SECP384R1())
    assert keys.load_private(_write(tmp_path / "p384.key", foreign, b"pw"), b"pw").public_key() == foreign.public_key()


@pytest.mark.parametrize("kind", keys.KINDS)
def test_every_kind_of_key_can_be_made_stored_and_signed_with(tmp_path: Path, kind: str, other: keys.PrivateKey) -> None:
    public = keys.load_public(keys.new(tmp_path / "demo.key", SECRET, kind))
    key = keys.load_private(tmp_path / "demo.key", SECRET)
    assert keys.kind(public) == keys.KINDS[kind]
    assert keys.read_public(keys.public_der(public), "x") == public == key.public_key()
    signature = keys.sign(key, b"data")
    assert (signature == keys.sign(key, b"data")) == (kind != "ml-dsa-65")
    assert keys.verifies(public, signature, b"data")
    assert not keys.verifies(public, signature, b"Data")
    assert not keys.verifies(other.public_key(), signature, b"data")


def test_a_kind_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        keys.new(tmp_path / "demo.key", None, "rsa")
    assert _code(error) == "key-type"
    assert list(tmp_path.iterdir()) == []


def test_the_stock_tool_verifies_elliptic_curves_only() -> None:
    """As measured with model_signing 1.1.1."""
    assert {name for name, kind in keys.KINDS.items() if kind.stock} == {"p256", "p384", "p521"}
