"""The table of tampers, and the document made from it: ``python tests/signing/battery.py`` writes docs/tampering.md anew."""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import tampers as do
from cryptography.hazmat.primitives.asymmetric import ec
from signed_release import CLAIMS as CLAIMS_MADE
from signed_release import FILES, MOMENT, fill
from tampers import CLAIMS, COSIGNED, SIGNATURE, WEIGHTS, Tamper

from safeflux_signing.errors import SigningError
from safeflux_signing.keys import PrivateKey
from safeflux_signing.sign import cosign, sign
from safeflux_signing.trust import Threshold, TrustedKey, TrustStore, bare
from safeflux_signing.verify import verify

DOCUMENT = Path(__file__).parents[2] / "docs" / "tampering.md"
MEASURED = "model_signing 1.1.1"
UNSIGNED, LINKS, IGNORED = ("--ignore_unsigned_files",), ("--allow_symlinks",), ("--ignore-paths", "{}/a-b")

STOCK_NOTICES = (  # which does not know the file
    "exchanged with the publisher's signature",
    "put in the place of the publisher's signature",
    "replaced by a link to itself elsewhere",
)

BATTERY = {
    "Files": [
        Tamper("a bit of the weights flipped", do.change(WEIGHTS, lambda d: d[:999] + bytes([d[999] ^ 1]) + d[1000:])),
        Tamper("a bit in the header of the weights flipped", do.change(WEIGHTS, lambda d: bytes([d[0] ^ 1]) + d[1:])),
        Tamper("a configuration edited", do.change("model_index.json", lambda d: d.replace(b"Flux", b"Evil"))),
        Tamper("a file cut short by a byte", do.change(WEIGHTS, lambda d: d[:-1])),
        Tamper("a byte appended to a file", do.change(WEIGHTS, lambda d: d + b"\0")),
        Tamper("a changed file that the verifier is told to ignore", do.change("a-b", lambda d: b"evil"), False, IGNORED),
        Tamper("a file removed", lambda r, _: (r / WEIGHTS).unlink()),
        Tamper("an empty file removed", lambda r, _: (r / "empty.txt").unlink()),
        Tamper("a file renamed", lambda r, _: (r / "a-b").rename(r / "a-c")),
        Tamper("two files exchanged", do.swap),
        Tamper("a file added", do.add("evil.py")),
        Tamper("an empty file added", do.add("transformer/__init__.py", b"")),
        Tamper("a hidden file added", do.add(".hidden")),
        Tamper("a hard link added", lambda r, _: (r / "copy").hardlink_to(r / "a-b")),
        Tamper("a file added whose name looks like another one's", do.add(unicodedata.normalize("NFD", "café.json"))),
        Tamper("`sub/.git/x` added", do.add("sub/.git/x")),
        Tamper("`.git/hooks/post-checkout` added", do.add(".git/hooks/post-checkout"), True),
        Tamper("`.git` added as a plain file", do.add(".git"), True),
        Tamper("`.github/evil.safetensors` added", do.add(".github/evil.safetensors"), True),
        Tamper("`.gitattributes` added", do.add(".gitattributes"), True),
        Tamper("`evil.py` added, unsigned files ignored", do.add("evil.py"), True, UNSIGNED),
        Tamper("an empty directory added", lambda r, _: (r / "empty").mkdir(), True),
    ],
    "Links and special files": [
        Tamper("a file replaced by a link to a copy", do.link("a-b")),
        Tamper("a directory replaced by a link to a copy", do.link("a")),
        Tamper("a file replaced by a link to nowhere", do.link("a-b", dangling=True)),
        Tamper("a link to a directory full of files added, links allowed", do.linked_payload, True, LINKS),
        Tamper("a file replaced by a hard link to a copy outside", do.hard_link("a-b"), True),
        Tamper("a file replaced by a pipe", do.pipe),
    ],
    "The signature": [
        Tamper("removed", lambda r, _: (r / SIGNATURE).unlink()),
        Tamper("emptied", do.change(SIGNATURE, lambda d: b"")),
        Tamper("replaced by `{}`", do.change(SIGNATURE, lambda d: b"{}")),
        Tamper("payload edited", do.bundle(lambda b: do.payload(b, lambda p: p.replace(b'"a-b"', b'"a-c"')))),
        Tamper("payload type edited", do.bundle(lambda b: b["dsseEnvelope"].update(payloadType="text/plain"))),
        Tamper("media type edited", do.bundle(lambda b: b.update(mediaType="application/json"))),
        Tamper("unknown field added", do.bundle(lambda b: b.update(evil=1))),
        Tamper("hint of another key", do.bundle(lambda b: b["verificationMaterial"]["publicKey"].update(hint="00" * 32))),
        Tamper("hint removed", do.bundle(lambda b: b["verificationMaterial"].update(publicKey={})), True),
        Tamper("made with another key", lambda r, _: sign(r, ec.generate_private_key(ec.SECP256R1()), release_id="demo", sequence=1)),
        Tamper("second, bogus signature added", do.bundle(do.second_signature), True),
        Tamper("unsigned key id edited", do.bundle(lambda b: b["dsseEnvelope"]["signatures"][0].update(keyid="evil")), True),
        Tamper("junk where a time stamp stands", do.bundle(do.time_stamp), True),
        Tamper("key `dsseEnvelope` twice, the first one bogus", do.change(SIGNATURE, lambda d: b'{"dsseEnvelope":{},' + d[1:]), True),
    ],
    "The manifest, under a good signature": [
        Tamper("key `predicateType` twice, the first one bogus", do.resigned(do.two_types), True),
        Tamper("a file listed twice, the first time with a wrong digest", do.resigned(do.twice), True),
        Tamper("no files listed, unsigned files ignored", do.resigned(lambda s: do.listing(s, [])), True, UNSIGNED),
        Tamper("every file on its own list of files to ignore", do.resigned(do.ignore_everything), True),
        Tamper("lists `../secret`, unsigned files ignored", lambda r, k: do.escape(r, k, "../secret"), True, UNSIGNED),
        Tamper("lists an absolute path, unsigned files ignored", lambda r, k: do.escape(r, k, "{}"), False, UNSIGNED),
        Tamper("format of before OMS 1.0", do.outdated, True),
        Tamper("another type of statement", do.resigned(lambda s: s.update(predicateType="https://example.org/evil"))),
    ],
    "The claims": [
        Tamper("one removed", do.claims(lambda lines: lines[1:]), True),
        Tamper("all removed", lambda r, _: (r / CLAIMS).unlink(), True),
        Tamper("one repeated", do.claims(lambda lines: [*lines, lines[0]]), True),
        Tamper("one edited", do.claims(lambda lines: [lines[0].replace(b'"sig":"M', b'"sig":"N'), *lines[1:]]), True),
        Tamper("an unsigned one added", do.claims(lambda lines: [*lines, b"{}\n"]), True),
        Tamper("one of a stranger added", do.claims(lambda lines: [*lines, do.again(lines[0], do.STRANGER)]), True),
        Tamper("a commitment added that nobody had required", do.commitment, True),
    ],
    "The co-signatures, where an auditor must have signed, too": [
        Tamper(what, how, what not in STOCK_NOTICES, cosigned=True)
        for what, how in {
            "removed": lambda r, _: (r / COSIGNED).unlink(),
            "emptied": do.change(COSIGNED, lambda d: b""),
            "changed by a byte": do.change(COSIGNED, lambda d: d.replace(b'"sig":"M', b'"sig":"N')),
            "its payload edited": do.cosignatures(lambda s, d: do.repacked(d, lambda p: p.replace(b'"a-b"', b'"a-c"'))),
            "written with a space": do.change(COSIGNED, lambda d: d.replace(b":", b": ", 1)),
            "repeated": do.change(COSIGNED, lambda d: d + d),
            "repeated, signed anew by the same key": do.cosignatures(lambda s, d: d + do.again(d, do.AUDITOR)),
            "replaced by the publisher's own signature": do.cosignatures(lambda s, d: s),
            "exchanged with the publisher's signature": do.exchange_signatures,
            "put in the place of the publisher's signature": lambda r, _: (r / COSIGNED).rename(r / SIGNATURE),
            "replaced by a stranger's": do.cosignatures(lambda s, d: do.again(d, do.STRANGER)),
            "joined by a stranger's": do.cosignatures(lambda s, d: d + do.again(d, do.STRANGER)),
            "replaced by the auditor's for another release": do.cosignatures(
                lambda s, d: do.again(d, do.AUDITOR, lambda p: p.replace(b"demo-1.0", b"demo-0.9"))
            ),
            "replaced by a claim of the auditor's": do.cosignatures(lambda s, d: do.sealed(do.claim_of(s), do.AUDITOR)),
            "replaced by a link to itself elsewhere": do.cosigned_link,
        }.items()
    ],
}  # fmt: skip
"""By what it was done to."""

NOT_SIGNED = [
    Tamper("the release's own directory renamed", lambda r, _: r.rename(r.parent / "other"), True),
    Tamper("a file made executable", lambda r, _: (r / "a-b").chmod(0o755), True),
]
"""What no signature here speaks about: they are no changes of what a release contains, so both accept them."""


def release(place: Path, key: PrivateKey, *, cosigned: bool = False) -> Path:
    directory = fill(place / "release")
    sign(directory, key, release_id="demo-1.0", sequence=3, claims=CLAIMS_MADE, created=MOMENT)
    if cosigned:
        cosign(directory, do.AUDITOR, [key.public_key()])
    return directory


def trust(key: PrivateKey, *, cosigned: bool = False) -> TrustStore:
    """Whom the user trusts: the publisher; with ``cosigned``, nothing that an auditor has not signed, too."""
    if not cosigned:
        return bare([key.public_key()])
    both = (TrustedKey(key.public_key(), "Acme"), TrustedKey(do.AUDITOR.public_key(), "Auditors", "auditor"))
    return TrustStore(both, thresholds=(Threshold(1, ("publisher",)), Threshold(1, ("auditor",))))


def tampered(tamper: Tamper, place: Path, key: PrivateKey) -> Path:
    """A release after ``tamper``, which may have renamed it."""
    directory = release(place, key, cosigned=tamper.cosigned)
    tamper.do(directory, key)
    return directory if directory.exists() else place / "other"


def ours(tamper: Tamper, place: Path, key: PrivateKey) -> set[str]:
    """The reason codes with which SafeFlux refuses a release after ``tamper``; empty if it accepts it."""
    try:
        verify(tampered(tamper, place, key), trust(key, cosigned=tamper.cosigned))
    except SigningError as error:
        return {finding.code for finding in error.findings}
    return set()


def document() -> str:
    """The text of docs/tampering.md, with what SafeFlux says found out on the way."""
    return "\n".join(_document()) + "\n"


def _document() -> Iterator[str]:
    key = ec.generate_private_key(ec.SECP256R1())
    yield (
        "# What a changed release meets\n\n"
        f"Each line was done to a small signed release ({len(FILES)} files, {len(CLAIMS_MADE)} claims), which was then verified by\n"
        f"SafeFlux and by {MEASURED}, the reference implementation of OpenSSF Model Signing. The latter had its default options, unless\n"
        "the line names one; SafeFlux has no options that make it accept more. A test makes the SafeFlux column anew in every run, and\n"
        "the other one where that verifier is installed.\n"
    )
    for title, tampers in BATTERY.items():
        yield f"## {title}\n\n| what was done | SafeFlux | {MEASURED} |\n|---|---|---|"
        for tamper in tampers:
            with tempfile.TemporaryDirectory() as place:
                said = ", ".join(f"`{code}`" for code in sorted(ours(tamper, Path(place), key)))
            options = " ".join(f"`{option}`" for option in tamper.options if option.startswith("--"))
            stock = "**accepts**" if tamper.stock else "refuses"
            yield f"| {tamper.what} | refuses: {said} | {stock}{f' with {options}' if options else ''} |"
        yield ""
    yield (
        "## Not signed\n\nA signature is about the names and contents of files. It says nothing of the name of the directory they lie in,\n"
        "nor of the permissions of a file, which some disks do not keep. Both verifiers accept these:\n"
    )
    yield from (f"- {tamper.what}" for tamper in NOT_SIGNED)
    yield (
        "\nOf signatures and claims made with keys no byte can be changed unseen. Under a Sigstore certificate what is signed, its\n"
        "signature and the certificate are bound to each other in the same way (`tests/signing/test_keyless_claims.py`); what a log and\n"
        "time stamps say of them can be put in another way that is true as well, such as by the proof that the log gives a year later."
    )
    yield (
        "\n## After the verification\n\nA file that is exchanged, or written to, after the release was verified is not loaded by "
        "`safeflux.load`, which loads\nfrom private copies that were hashed (`tests/test_load.py`). With any other way of loading, nobody "
        "else may be able to write to the directory."
    )


if __name__ == "__main__":
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(document(), encoding="utf-8")
