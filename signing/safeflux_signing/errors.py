"""Every error this package raises on purpose.

    SigningError                 the root; carries a list of findings
    |-- InputError          2    what was handed in cannot be used: a key file, a passphrase, a release id
    `-- VerificationError        the release is not to be used
        |-- UnsafeReleaseError  16    malformed, of an unknown format, or hostile: links, names, JSON, envelopes
        |-- TamperedError       10    files were changed, added or removed
        |-- BadSignatureError   11    a signature is missing or wrong
        |-- UntrustedKeyError   12    signed, but by no key that is trusted with it
        |-- RevokedError        13    key revoked, expired or not valid yet; release revoked, too old, or older than one seen
        |-- ThresholdError      14    too few different keys have signed
        |-- ClaimError          14    a required claim is missing, or a claim speaks about other files
        `-- LimitError          15    what was measured does not keep a limit that was asked for

The numbers are the exit codes of the command line. An error lists everything that was found, so several kinds may
stand in one; its class is that of the gravest, in the order above.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from safeflux_signing.reasons import EXIT_CODES, REASONS, Kind

LONGEST = 300


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    ``file`` is relative to the release, with "/"; ``code`` a key of ``reasons.REASONS``; ``what`` one sentence;
    ``expected`` and ``actual`` what was wanted and what came (digests in hex), where there are two things to compare.
    Names and values may be an attacker's: show them with ``printable``.
    """

    file: str
    code: str
    what: str
    expected: str | None
    actual: str | None
    remedy: str

    def __str__(self) -> str:
        return printable(f"{self.file}: {self.what} [{self.code}]")


class SigningError(Exception):
    """Root of all errors raised on purpose. ``findings`` is never empty; ``exit_code`` is what the command line leaves with."""

    exit_code = 1

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))


class InputError(SigningError):
    exit_code = EXIT_CODES["input"]


class VerificationError(SigningError):
    pass


class UnsafeReleaseError(VerificationError):
    exit_code = EXIT_CODES["unsafe"]


class TamperedError(VerificationError):
    exit_code = EXIT_CODES["tampered"]


class BadSignatureError(VerificationError):
    exit_code = EXIT_CODES["signature"]


class UntrustedKeyError(VerificationError):
    exit_code = EXIT_CODES["untrusted"]


class RevokedError(VerificationError):
    exit_code = EXIT_CODES["revoked"]


class ThresholdError(VerificationError):
    exit_code = EXIT_CODES["threshold"]


class ClaimError(VerificationError):
    exit_code = EXIT_CODES["claim"]


class LimitError(VerificationError):
    exit_code = EXIT_CODES["limit"]


ERRORS: dict[Kind, type[SigningError]] = {
    "input": InputError,
    "unsafe": UnsafeReleaseError,
    "tampered": TamperedError,
    "signature": BadSignatureError,
    "untrusted": UntrustedKeyError,
    "revoked": RevokedError,
    "threshold": ThresholdError,
    "claim": ClaimError,
    "limit": LimitError,
}


def printable(text: str) -> str:
    """``text`` on one line, with everything that could steer a terminal, begin a line or hide from the eye written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def found(code: str, file: str, what: str, *, expected: object = None, actual: object = None) -> Finding:
    """A finding with the remedy of its code. Long values are cut: they may be an attacker's."""

    def short(value: object) -> str | None:
        text = None if value is None else str(value)
        return text if text is None or len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"

    return Finding(file, code, what, short(expected), short(actual), REASONS[code].remedy)


def gravest(findings: Iterable[Finding]) -> SigningError:
    """The error that carries all ``findings``, of the class of the gravest one. It is returned, to be raised."""
    every = tuple(findings)
    kinds = {REASONS[finding.code].kind for finding in every}
    return ERRORS[next(kind for kind in EXIT_CODES if kind in kinds)](every)


def refusal(code: str, file: str, what: str, *, expected: object = None, actual: object = None) -> SigningError:
    """The error of a single finding. It is returned, to be raised."""
    return gravest([found(code, file, what, expected=expected, actual=actual)])
