"""Which file names a release may have.

A name is a path below the release with "/" between its parts. It must mean the same file on every system that may hold
the release, and look like what it is: so no parent or absolute paths, nothing a Windows or macOS disk would change, no two
names that some disk takes for one, no characters that are invisible or turn the text around.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

SIGNATURE = "model.sig"
CLAIMS = "claims.jsonl"
COSIGNATURES = "signatures.jsonl"
SIDE_FILES = (CLAIMS, COSIGNATURES, SIGNATURE)
"""The only files of a release that its manifest does not list. Fixed here; what a signature says about it is not asked."""

RESERVED = "signatures"
"""Top-level directory that other tools keep signatures in: no file of a release can be there."""

MAX_PARTS = 32
MAX_BYTES = 1024

_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in "123456789¹²³")}
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def complaint(name: str) -> tuple[str, str] | None:
    """The code of the reason for which ``name`` cannot be the name of a file in a release, and why in words; None if it can."""
    parts = name.split("/")
    if name.startswith("/"):
        return "name-absolute", "the name is absolute"
    if ".." in parts:
        return "name-parent", 'the name leads up, by ".."'
    if "" in parts or "." in parts:
        return "name-unsafe", 'the name has an empty part, or one that is "."'
    if any(unicodedata.category(c) in _INVISIBLE for c in name):
        return "name-control", "the name has control or invisible characters, or is not UTF-8"
    if unicodedata.normalize("NFC", name) != name:
        return "name-not-nfc", "the name is not in Unicode normal form C"
    if "\\" in name:
        return "name-backslash", "the name has a backslash, which Windows reads as the end of a directory's name"
    if any(c in name for c in ':*?"<>|'):
        return "name-unsafe", 'the name has one of : * ? " < > |'
    if any(part.endswith((" ", ".")) or part.split(".")[0].rstrip().casefold() in _DEVICES for part in parts):
        return "name-unsafe", "Windows would read the name as another one (it ends with a dot or space, or is a device)"
    if len(parts) > MAX_PARTS or len(name.encode("utf-8")) > MAX_BYTES:
        return "name-unsafe", f"the name is longer than {MAX_BYTES} bytes or {MAX_PARTS} parts"
    return None


def collisions(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of different paths (files or directories of ``names``, or side files) that differ only in case or normal form."""
    spelling = {_fold(name): name for name in (*SIDE_FILES, RESERVED)}
    pairs: dict[tuple[str, str], None] = {}
    for name in sorted(names):
        parts = name.split("/")
        for count in range(1, len(parts) + 1):
            path = "/".join(parts[:count])
            first = spelling.setdefault(_fold(path), path)
            if first != path:
                pairs[(first, path)] = None
    return list(pairs)


def reserved(name: str) -> bool:
    """Whether ``name`` belongs to signatures and so can be in no manifest."""
    return name.split("/", 1)[0] in (*SIDE_FILES, RESERVED)


def _fold(path: str) -> str:
    """Equal for two paths that a case-insensitive or normalising file system may take for one (Unicode caseless match)."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())
