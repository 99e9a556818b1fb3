"""A key behind a program signs like any other, and whatever such a program does wrong is said before anything is written."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from signed_release import CLAIMS
from signing_program import name

from safeflux_signing import keys, signers
from safeflux_signing.dsse import seal
from safeflux_signing.errors import InputError
from safeflux_signing.keynames import ProgramName, named
from safeflux_signing.program import ProgramSigner, program_signer
from safeflux_signing.sign import sign
from safeflux_signing.verify import verify

README = Path(__file__).parent.parent.parent / "README.md"


def key_file(directory: Path, kind: str = "p256", stem: str = "service") -> Path:
    path = directory / f"{stem}.key"
    keys.new(path, None, kind)
    return path


def signer(text: str) -> ProgramSigner:
    found = named(text)
    assert isinstance(found, ProgramName)
    return program_signer(found)


def reasons(error: InputError) -> set[str]:
    return {finding.code for finding in error.findings}


@pytest.mark.parametrize(
    ("kind", "reads", "how"),
    [
        ("p256", "digest", "digest"),
        ("p384", "digest", "base64"),
        ("p521", "digest", "digest"),
        ("ed25519", "message", "message"),
        ("ml-dsa-65", "message", "message"),
    ],
)
def test_a_key_behind_a_program_signs_releases_and_claims(bare: Path, tmp_path: Path, kind: str, reads: str, how: str) -> None:
    path = key_file(tmp_path, kind)
    loaded = signers.load(named(name(reads, path, how)))
    public = keys.load_public(path.with_suffix(".pub"))
    assert keys.key_id(loaded.public_key()) == keys.key_id(public)
    sign(bare, loaded, release_id="demo-1.0", sequence=1, claims=CLAIMS)
    verified = verify(bare, [public])
    assert {claim.key_id for claim in verified.claims} == {verified.key_id} == {keys.key_id(public)}


def test_of_two_signatures_that_mean_the_same_the_lower_is_kept(tmp_path: Path) -> None:
    service = signer(name("digest", key_file(tmp_path), "high"))
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    assert decode_dss_signature(service.sign(b"x"))[1] > order // 2
    assert decode_dss_signature(seal(b"{}", service).signature)[1] <= order // 2


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("locked", "ended with status 1: not logged in: run login first"),
        ("killed", "was ended by signal 9"),
        ("silent", "no signature"),
        ("chatty", "no signature"),
        ("raw", "no signature"),
    ],
)
def test_a_program_that_does_not_sign_is_said_and_nothing_is_written(bare: Path, tmp_path: Path, how: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        sign(bare, signer(name("digest", key_file(tmp_path), how)), release_id="demo-1.0", sequence=1)
    assert reasons(caught.value) == {"signer-failed"}
    assert str(tmp_path / "service.key") not in str(caught.value), "arguments may hold what nobody is to read"
    assert not (bare / "model.sig").exists()


def test_a_program_that_does_not_end_is_ended(tmp_path: Path) -> None:
    slow = replace(signer(name("digest", key_file(tmp_path), "slow")), seconds=0.2)
    with pytest.raises(InputError, match=r"did not end within 0\.2 seconds"):
        slow.sign(b"x")


@pytest.mark.parametrize(("how", "public"), [("digest", "other"), ("hashes", "own")])
def test_another_key_or_another_digest_signs_nothing(bare: Path, tmp_path: Path, how: str, public: str) -> None:
    own, _ = key_file(tmp_path, stem="own"), key_file(tmp_path, stem="other")
    with pytest.raises(InputError, match="does not verify with its own public key") as caught:
        sign(bare, signer(name("digest", own, how, tmp_path / f"{public}.pub")), release_id="demo-1.0", sequence=1)
    assert reasons(caught.value) == {"signer-failed"}
    assert not (bare / "model.sig").exists()


@pytest.mark.parametrize(
    ("program", "words"), [("no-such-program-anywhere", "there is no such program"), ("/", "could not be started: Permission denied")]
)
def test_a_program_that_is_none_is_said(tmp_path: Path, program: str, words: str) -> None:
    public = key_file(tmp_path).with_suffix(".pub")
    with pytest.raises(InputError, match=words) as caught:
        signer(f"exec:digest {public} {program}").sign(b"x")
    assert reasons(caught.value) == {"signer-failed"}


def test_no_shell_reads_the_name(tmp_path: Path) -> None:
    public = key_file(tmp_path).with_suffix(".pub")
    with pytest.raises(InputError, match="no signature"):
        signer(f"exec:digest {public} echo '$HOME' ; touch {tmp_path / 'made'}").sign(b"x")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("text", "code"),
    [("digest {ed} true", "program-name"), ("digest {none} true", "key-unreadable"), ("digest {private} true", "key-private")],
)
def test_a_public_key_that_does_not_do_is_found_before_the_program_is_started(tmp_path: Path, text: str, code: str) -> None:
    ed = key_file(tmp_path, "ed25519")
    with pytest.raises(InputError) as caught:
        signer("exec:" + text.format(ed=ed.with_suffix(".pub"), none=tmp_path / "none.pub", private=ed))
    assert reasons(caught.value) == {code}


def test_a_name_is_taken_apart_as_a_shell_does_it() -> None:
    text = "exec:digest 'my keys/acme.pub' ~/bin/sign --key 'a b' \"\""
    found = ProgramName("digest", Path("my keys/acme.pub"), ("~/bin/sign", "--key", "a b", ""))
    assert named(text) == found == named(found.written())
    assert str(found) == "exec:digest my keys/acme.pub ~/bin/sign ..."
    placed = found.below(Path("/home/acme"))
    assert placed.public == Path("/home/acme/my keys/acme.pub")
    assert placed.command == (str(Path("~/bin/sign").expanduser()), "--key", "a b", "")
    assert found.below(Path("/x")).below(Path("/y")) == found.below(Path("/x"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("exec:", "what the program reads"),
        ("exec:acme.pub aws kms sign", "what the program reads"),
        ("exec:digest", "no public key and program"),
        ("exec:digest acme.pub", "no public key and program"),
        ("exec:digest acme.pub ''", "no public key and program"),
        ("exec:digest acme.pub 'aws", "quotes do not match"),
        ("exec:digest acme.pub a\0b", "NUL"),
    ],
)
def test_a_name_that_is_none_is_refused(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        named(text)
    assert reasons(caught.value) == {"program-name"}


def test_the_names_in_the_readme_are_such_names_and_that_with_openssl_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = re.findall(r'"(exec:[^"]+)"', README.read_text(encoding="utf-8"))
    aws, openssl = [found for found in map(named, names) if isinstance(found, ProgramName)]
    assert aws.command[:3] == ("aws", "kms", "sign")
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    monkeypatch.chdir(key_file(tmp_path, stem="acme").parent)
    service = program_signer(openssl)
    assert keys.verifies(service.public_key(), service.sign(b"x"), b"x")
