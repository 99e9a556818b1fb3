"""Files of one signed bundle a line: claims, co-signatures, rotations.

Anybody on the way can append to such a file, so the work that its lines make is bounded before any of them is trusted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from safeflux_signing.errors import Finding, SigningError, found, gravest, refusal

MAX_LINES = 1000
MAX_FINDINGS = 100
"""After so many, nobody needs to be told what else is wrong with the file."""


def split(data: bytes, file: str) -> tuple[list[bytes], bool]:
    """The lines of ``data``, and whether there are any and the last one has its end. Raises UnsafeReleaseError (too-large)."""
    if (count := data.count(b"\n")) > MAX_LINES:
        raise refusal("too-large", file, "more lines than any honest file of this kind has", expected=f"at most {MAX_LINES}", actual=count)
    *lines, rest = data.split(b"\n")
    return lines, bool(lines) and not rest


def read(data: bytes | None, file: str, take: Callable[[bytes], None]) -> list[Finding]:
    """Hand each line of ``data`` (None if there is no file) to ``take``; everything that is wrong with the file, by its lines.

    ``take`` raises SigningError for a line that is not good. Raises UnsafeReleaseError (too-large), and the error of what was found
    so far where there is so much of it that the lines left are not looked at.
    """
    if data is None:
        return []
    lines, whole = split(data, file)
    findings = [] if whole else [found("json-not-canonical", file, "the file is empty, or its last line is cut short")]
    for number, line in enumerate(lines, 1):
        try:
            take(line)
        except SigningError as error:
            findings += [replace(finding, what=f"line {number}: {finding.what}") for finding in error.findings]
        if len(findings) >= MAX_FINDINGS and number < len(lines):
            findings[-1] = replace(findings[-1], what=f"{findings[-1].what}; the other {len(lines) - number} lines were not looked at")
            raise gravest(findings)
    return findings
