"""Every reason for which a key, a directory or a signature is refused.

One table: the code that machines read, the class of error (and so the exit code), and what a person can do about it.
Codes are stable; a new one is one line here and one test.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["input", "unsafe", "tampered", "signature", "untrusted", "revoked", "threshold", "claim", "limit"]

EXIT_CODES: dict[Kind, int] = {
    "input": 2, "unsafe": 16, "tampered": 10, "signature": 11, "untrusted": 12, "revoked": 13, "threshold": 14, "claim": 14, "limit": 15,
}  # fmt: skip
"""Exit code of each kind. When several kinds are found at once, the first of them in this order is raised."""

AGAIN = "Get the release again from its publisher; do not load it."
BLAME = "Whoever signed this made something this verifier does not accept; ask the publisher for a release in the current format."
MOVE = "A release holds plain files under portable names: remove or rename it if the release is yours, else get the release again."
NEWER = "Use a newer version of this tool, or ask the publisher which one."


class Reason(NamedTuple):
    kind: Kind
    remedy: str


REASONS: dict[str, Reason] = {
    # what was handed in
    "key-exists": Reason("input", "Choose another path; existing files are never overwritten."),
    "key-unreadable": Reason("input", "Give the path of a PEM file with one key."),
    "key-unwritable": Reason("input", "Choose a path in a directory that exists and can be written."),
    "key-type": Reason(
        "input",
        "Use a key on P-256, P-384 or P-521, or an Ed25519 or ML-DSA-65 key (`openssl pkey -in FILE -noout -text` shows what it is).",
    ),
    "key-private": Reason("input", "Give the public key (the .pub file beside it); the private one stays with the publisher."),
    "passphrase-needed": Reason("input", "Give the passphrase of this key."),
    "passphrase-wrong": Reason("input", "Give the passphrase with which this key was made."),
    "passphrase-empty": Reason("input", "Give a passphrase of at least one character, or ask for an unencrypted key explicitly."),
    "signer-missing": Reason("input", "pip install 'safeflux[pkcs11]'"),
    "token-name": Reason("input", "Write pkcs11:token=LABEL;object=LABEL?module-path=LIBRARY; the PIN goes where passphrases go."),
    "program-name": Reason("input", "Write exec:digest PUBLIC PROGRAM [ARGUMENT...], or exec:message for a program that reads all of it."),
    "keyless-missing": Reason("input", "pip install 'safeflux[sigstore]'"),
    "signer-config": Reason(
        "input", "Write sigstore: for the public instance, or sigstore:FILE with a client trust config (JSON) of another."
    ),
    "signer-failed": Reason(
        "input",
        "See that the token, program or service is there, holds this key, and hashes as the kind of key asks for; for Sigstore, that there "
        "is a network and a fresh identity token.",
    ),
    "key-wanted": Reason("input", "Name a private key: a PEM file, pkcs11:... (RFC 7512) or exec:..."),
    "release-field": Reason("input", "Correct the value; see the documentation of sign()."),
    "directory-unreadable": Reason("input", "Give a directory that can be read."),
    "directory-unwritable": Reason("input", "Make the directory writable for whoever signs it."),
    # names and kinds of files
    "name-absolute": Reason("unsafe", BLAME),
    "name-parent": Reason("unsafe", BLAME),
    "name-backslash": Reason("unsafe", MOVE),
    "name-control": Reason("unsafe", MOVE),
    "name-not-nfc": Reason("unsafe", MOVE),
    "name-unsafe": Reason("unsafe", MOVE),
    "name-collision": Reason("unsafe", "Rename one of the two: some file systems cannot tell them apart."),
    "name-reserved": Reason("unsafe", "This name is reserved for signatures; remove or rename it."),
    "symlink": Reason("unsafe", "Replace the link by the file it points to."),
    "hard-link": Reason(
        "unsafe", "Put a copy in its place (cp FILE COPY; mv COPY FILE): whoever may write to its other name changes the release."
    ),
    "special-file": Reason("unsafe", MOVE),
    "empty-directory": Reason("unsafe", "Remove the directory: a signature covers files, so it cannot speak for an empty directory."),
    "too-deep": Reason("unsafe", MOVE),
    "unreadable": Reason("unsafe", "Make it readable, and make sure that nothing writes to it meanwhile."),
    "no-files": Reason("unsafe", "There is nothing to sign; give the directory that holds the model."),
    "too-large": Reason("unsafe", AGAIN),
    # JSON
    "json-invalid": Reason("unsafe", AGAIN),
    "json-duplicate-key": Reason("unsafe", AGAIN),
    "json-too-deep": Reason("unsafe", AGAIN),
    "json-too-large": Reason("unsafe", AGAIN),
    "json-not-canonical": Reason("unsafe", AGAIN),
    # envelope
    "bundle-shape": Reason("unsafe", AGAIN),
    "bundle-version": Reason("unsafe", BLAME),
    "signing-method": Reason(
        "unsafe", "Put whoever signs with a Sigstore certificate in your trust file as [[identity]]; co-signatures need a key."
    ),
    "certificate-key": Reason(
        "unsafe", "Ask the publisher to sign under a certificate over a new key, on P-256, P-384 or P-521 or of kind Ed25519 or ML-DSA-65."
    ),
    "signature-count": Reason("unsafe", AGAIN),
    "signature-keyid": Reason("unsafe", AGAIN),
    "payload-type": Reason("unsafe", AGAIN),
    # manifest
    "statement-shape": Reason("unsafe", BLAME),
    "predicate-type": Reason("unsafe", BLAME),
    "predicate-outdated": Reason("unsafe", BLAME),
    "manifest-method": Reason("unsafe", BLAME),
    "manifest-hash": Reason("unsafe", BLAME),
    "manifest-symlinks": Reason("unsafe", BLAME),
    "manifest-empty": Reason("unsafe", BLAME),
    "manifest-order": Reason("unsafe", BLAME),
    "manifest-repeats": Reason("unsafe", BLAME),
    "manifest-digest": Reason("unsafe", BLAME),
    "release-format": Reason("unsafe", NEWER),
    # files against the manifest
    "file-changed": Reason("tampered", AGAIN),
    "file-added": Reason("tampered", "Remove it, or get the release again: the publisher did not sign it."),
    "file-removed": Reason("tampered", AGAIN),
    # signatures and keys
    "signature-missing": Reason("signature", "Get the release again with its model.sig; without one nobody stands behind it."),
    "signature-invalid": Reason("signature", AGAIN),
    "signature-hint": Reason("signature", AGAIN),
    "log-invalid": Reason("signature", AGAIN),
    "cosignature-payload": Reason("signature", AGAIN),
    "cosignature-repeated": Reason("signature", "One signature of a key is enough: remove the line if the release is yours."),
    # trust
    "no-key": Reason(
        "untrusted",
        "Get the publisher's public key, from the publisher and not from the release: `safeflux keys trust PUB.pem`, or --key PUB.pem",
    ),
    "key-unknown": Reason("untrusted", "Give the public key of whoever signed this, if you trust them: --key PUB.pem (may be repeated)."),
    "certificate-untrusted": Reason("untrusted", "Do not load it, unless its authority belongs in the trusted root that you use."),
    "identity-unknown": Reason(
        "untrusted", "Do not load it, unless you trust this identity: then put it, with its issuer, in your trust file."
    ),
    "identity-issuer": Reason("untrusted", "Do not load it: anybody may have an account of this name with another provider."),
    "key-namespace": Reason("untrusted", "Do not load it, unless you have reason to trust this key with this release, in your trust file."),
    "key-role": Reason(
        "untrusted", "An auditor signs claims, or beside a publisher; ask the publisher for a release signed by its own key."
    ),
    "claim-not-allowed": Reason(
        "untrusted", "Do not rely on the claim, unless you have reason to trust this key with it, in your trust file."
    ),
    "key-revoked": Reason("revoked", "Do not load it; ask the publisher for a release signed with another key."),
    "key-expired": Reason("revoked", "Ask the publisher for the key's successor and a new release; check the clock of this machine."),
    "key-not-yet-valid": Reason("revoked", "Check the clock of this machine, and the dates in your trust file."),
    "certificate-expired": Reason("revoked", "Ask the publisher to sign again, and to have it logged at once."),
    "certificate-untimed": Reason("revoked", "Ask the publisher for a signature with an entry in a log, or with a time stamp."),
    "release-revoked": Reason("revoked", "Do not load it; get a newer release."),
    "release-rollback": Reason("revoked", "Get the newest release; to go back on purpose, lower its number in the file of what was seen."),
    "signatures-too-few": Reason(
        "threshold", "Ask the publisher for the missing signatures; do not load it with fewer than you asked for."
    ),
    # the user's own files of trust
    "trust-unreadable": Reason("input", "Give the path of a trust file; `safeflux keys trust` makes one."),
    "trust-unwritable": Reason("input", "Make the file, and the directory it is in, writable."),
    "trust-invalid": Reason("input", "Correct the file, or have it from a backup; nothing in it is trusted as it is."),
    "trust-repeated": Reason("input", "Nothing was changed. `safeflux keys untrust` takes a key away, to be added anew."),
    "trust-absent": Reason("input", "Name a key that is there; the comments in the trust file tell their ids."),
    "rotation-unreadable": Reason("input", "Give the path of a statement that `safeflux keys rotate` wrote."),
    "rotation-shape": Reason("unsafe", "Ask the publisher for a new statement; nothing was changed."),
    "seen-invalid": Reason("input", "Have the file from a backup; removing it forgets which releases were seen."),
    "seen-unwritable": Reason("input", "Make the file, and the directory it is in, writable: what was seen is remembered there."),
    # claims
    "predicate-unreadable": Reason("input", "Give the path of a JSON file that holds what is claimed."),
    "claim-missing": Reason("claim", "Get the release again with its claims.jsonl complete."),
    "claim-subject": Reason("claim", AGAIN),
    "claim-repeated": Reason("claim", AGAIN),
    "commitment-broken": Reason("claim", "Do not rely on the report: its publisher had bound itself to something else before."),
    "commitment-late": Reason("claim", "Do not rely on the report: what it was to be judged by was not fixed before it was made."),
    # what the user asked for beyond that
    "requirement": Reason("input", "Write one of the forms listed; numbers in plain decimals."),
    "release-old": Reason("revoked", "Get a newer release, or ask for a greater age."),
    "release-undated": Reason("revoked", "Ask the publisher for a release that says when it was signed; check the clock of this machine."),
    "claim-wanted": Reason("claim", "Ask the publisher for a release with this claim, or do not ask for it."),
    "limit-missed": Reason("limit", "The publisher signed that this was measured: use another release, or ask for a limit that it keeps."),
    "limit-unmeasured": Reason("limit", "What was not measured keeps no limit: use a release whose report has this line."),
}
