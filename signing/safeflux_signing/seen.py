"""Protection against rollback: a small file remembers the highest sequence seen of each release, and a lower one is refused.

An old release with a known hole has a good signature for ever. Kept by the release's name, with which its id begins: so who is
trusted with the ids of one publisher cannot lock out another with a high number.
"""

from __future__ import annotations

import json
from pathlib import Path

from safeflux_signing import names, smallfiles, strictjson
from safeflux_signing.errors import SigningError, refusal
from safeflux_signing.manifest import Release

FORMAT = "safeflux-seen/1"
MAX_BYTES = 4 << 20


def check(path: Path, release: Release | None) -> Release:
    """The verified ``release`` itself, if by what ``path`` remembers no newer one was seen; remembers nothing.

    Raises RevokedError (release-rollback) for one that is older than another that was seen, or that does not say so;
    InputError (seen-invalid): a memory that cannot be used is no reason to forget.
    """
    if release is None or not release.name:
        what = "the release has no name and sequence signed, so nothing tells whether it is the newest that was seen"
        raise refusal("release-rollback", names.SIGNATURE, what, expected="a release signed with its name")
    _highest(path, release)
    return release


def note(path: Path, release: Release | None) -> None:
    """Remember a verified release in ``path``, made on first use.

    To be called last, when it is known to be good and to be what its user asked for: whoever is refused a newer release goes back to
    the one before. Raises what ``check`` raises, and InputError (seen-unwritable).
    """
    release = check(path, release)
    if _highest(path, release) == release.sequence:
        return
    with smallfiles.changing(path, "seen-unwritable"):
        if _highest(path, release) != release.sequence:
            document = {"format": FORMAT, "highest": {**_read(path), str(release.name): release.sequence}}
            smallfiles.replace(path, json.dumps(document, indent=1, sort_keys=True).encode("utf-8") + b"\n", "seen-unwritable")


def _highest(path: Path, release: Release) -> int | None:
    """The highest sequence seen of this release's name. Raises if it is above the release's own."""
    highest = _read(path).get(str(release.name))
    if highest is not None and release.sequence < highest:
        what = f"a newer release of {release.name} was seen before"
        raise refusal("release-rollback", names.SIGNATURE, what, expected=f"sequence {highest} or higher", actual=release.sequence)
    return highest


def _read(path: Path) -> dict[str, int]:
    """The highest sequences by name of the release; nothing if there is no file yet."""
    code, file = "seen-invalid", str(path)
    data = smallfiles.read_if_there(path, MAX_BYTES, code)
    if data is None:
        return {}
    try:
        document = strictjson.fields(strictjson.loads(data, file), "the file", file, code, {"format", "highest"}, set())
    except SigningError as error:
        raise refusal(code, file, error.findings[0].what) from error
    highest = document["highest"]
    if document["format"] != FORMAT or not isinstance(highest, dict):
        raise refusal(code, file, "of a format that this version does not know", expected=FORMAT, actual=document["format"])
    sequences = {name: value for name, value in highest.items() if isinstance(value, int) and not isinstance(value, bool)}
    if len(sequences) != len(highest):
        raise refusal(code, file, "a sequence in it is not a whole number")
    return sequences
