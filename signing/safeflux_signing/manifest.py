"""The signed list of files: an OpenSSF Model Signing (OMS) v1.0 statement, and what the release says of itself.

Written: method "files", SHA-256, names in code-point order. The statement's subject is the release as a whole, by two digests: OMS's
root digest, which binds contents but not names, and ``dirHash1`` (in-toto's name for Go's directory hash), which binds both; under a
certificate by the first alone. Beside them, as an annotation of the subject, stands the release: id, sequence, time, and the digests of
the claims that must come with it. The annotation is in-toto's own extension point and the one that the published OMS schemas leave open
(they close the predicate), so other OMS verifiers accept the file.

Read: the same, and what model_signing itself writes in this mode (no annotation, names ordered by path parts). Even a
manifest with a good signature is hostile input: keys get stolen.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from safeflux_signing import names, strictjson
from safeflux_signing.errors import SigningError, refusal
from safeflux_signing.strictjson import Json

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
OUTDATED_TYPE = "https://model_signing/Digests/v0.1"
ANNOTATION = "safeflux"
FORMAT = 1

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """One file: its name below the release, and the SHA-256 of its content in hex."""

    name: str
    sha256: str


@dataclass(frozen=True)
class RequiredClaim:
    """A claim that must come with the release: its predicate type, and the SHA-256 of its payload in hex."""

    predicate_type: str
    payload_sha256: str


@dataclass(frozen=True)
class Release:
    """What the release says of itself. ``sequence`` grows with each release of the same ``name``; ``created`` is in UTC, to the second.

    ``release_id`` begins with the name and a hyphen, so that who may sign under which id (trust.py) holds for names too.
    """

    release_id: str
    sequence: int
    created: datetime
    required: tuple[RequiredClaim, ...]
    name: str | None = None


@dataclass(frozen=True)
class Manifest:
    """``entries`` in the signed order; ``name`` is only informative; ``release`` is None where another tool signed."""

    name: str
    entries: tuple[Entry, ...]
    release: Release | None


def subject_digests(entries: Iterable[Entry]) -> dict[str, str]:
    """The two digests of a whole release: {"sha256": OMS root digest, "dirHash1": digest over contents and names}."""
    entries = tuple(entries)
    root = hashlib.sha256(b"".join(bytes.fromhex(entry.sha256) for entry in entries))
    lines = "".join(f"{entry.sha256}  {entry.name}\n" for entry in sorted(entries, key=lambda entry: entry.name))
    return {"sha256": root.hexdigest(), "dirHash1": hashlib.sha256(lines.encode("utf-8")).hexdigest()}


def statement(subject: str, digests: Mapping[str, str], predicate_type: str, predicate: object, **more: object) -> bytes:
    """An in-toto statement v1 about one release, as JSON; ``more`` are further fields of the subject."""
    return strictjson.dumps(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": subject, "digest": dict(digests), **more}],
            "predicateType": predicate_type,
            "predicate": predicate,
        }
    )


def dumps(name: str, entries: Sequence[Entry], release: Release, certified: bool = False) -> bytes:
    """What to sign, with a key or ``certified``, about the release called ``name``; ``entries`` in code-point order of their names."""
    extension: dict[str, object] = {
        "format": FORMAT,
        "releaseId": release.release_id,
        "sequence": release.sequence,
        "created": strictjson.write_time(release.created),
        "requiredClaims": [{"predicateType": claim.predicate_type, "payloadSha256": claim.payload_sha256} for claim in release.required],
        **({"name": release.name} if release.name else {}),
    }
    predicate = {
        "resources": [{"name": entry.name, "digest": entry.sha256, "algorithm": "sha256"} for entry in entries],
        # For other verifiers only; ours has its own list of side files and never reads this one.
        "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": list(names.SIDE_FILES)},
    }
    digests = subject_digests(entries)
    if certified:
        del digests["dirHash1"]  # which Sigstore takes for none; what it binds stands in the entries
    return statement(name, digests, PREDICATE_TYPE, predicate, annotations={ANNOTATION: extension})


def loads(payload: bytes, file: str, certified: bool = False) -> Manifest:
    """Read a manifest signed with a key, or ``certified``. Raises UnsafeReleaseError with what is not as it must be, naming ``file``."""
    refuse_outdated(payload, file)
    subject, predicate_type, predicate = read_statement(payload, file)
    if predicate_type != PREDICATE_TYPE:
        raise refusal("predicate-type", file, "a statement that is not a manifest", expected=PREDICATE_TYPE, actual=predicate_type)
    parts = strictjson.fields(predicate, "the predicate", file, "statement-shape", {"resources", "serialization"}, set())
    _check_serialization(parts["serialization"], file)
    entries = _entries(parts["resources"], file)
    annotations = subject.get("annotations", {})
    if not isinstance(annotations, dict):
        raise refusal("statement-shape", file, "the subject's annotations are not a JSON object")
    release = _release(annotations[ANNOTATION], file) if ANNOTATION in annotations else None
    needed = {"sha256", "dirHash1"} if release and not certified else {"sha256"}
    check_digests(subject["digest"], subject_digests(entries), needed, "manifest-digest", file, "the manifest's subject")
    return Manifest(str(subject["name"]), entries, release)


def refuse_outdated(payload: bytes, file: str) -> None:
    """Raise UnsafeReleaseError (predicate-outdated) for a manifest from before OMS 1.0, whose signature was over other bytes, too."""
    try:
        whole = strictjson.loads(payload, file) if OUTDATED_TYPE.encode() in payload else None
    except SigningError:
        return
    if isinstance(whole, dict) and whole.get("predicateType") == OUTDATED_TYPE:
        what = "a manifest in a format from before OMS 1.0, whose signatures are not checked"
        raise refusal("predicate-outdated", file, what, expected=PREDICATE_TYPE, actual=OUTDATED_TYPE)


def read_statement(payload: bytes, file: str) -> tuple[dict[str, Json], str, Json]:
    """(subject, predicate type, predicate) of a statement about exactly one subject. Raises UnsafeReleaseError (statement-shape)."""
    code, value = "statement-shape", strictjson.loads(payload, file)
    whole = strictjson.fields(value, "the statement", file, code, {"_type", "subject", "predicateType", "predicate"}, set())
    if whole["_type"] != STATEMENT_TYPE:
        raise refusal(code, file, "a statement of another type", expected=STATEMENT_TYPE, actual=whole["_type"])
    subjects, predicate_type = whole["subject"], whole["predicateType"]
    if not isinstance(subjects, list) or len(subjects) != 1:
        raise refusal(code, file, "not exactly one subject")
    subject = strictjson.fields(subjects[0], "the subject", file, code, {"name", "digest"}, {"annotations"})
    if not isinstance(subject["name"], str) or not subject["name"] or not isinstance(predicate_type, str):
        raise refusal(code, file, "the subject's name or the predicate type is not a text")
    return subject, predicate_type, whole["predicate"]


def check_digests(given: Json, true: Mapping[str, str], needed: set[str], code: str, file: str, what: str) -> None:
    """Raise the error of ``code`` unless ``given`` has the ``needed`` digests and every known one in it is right."""
    if not isinstance(given, dict) or not needed <= given.keys():
        raise refusal(code, file, f"{what} lacks a digest that binds it", expected=", ".join(sorted(needed)))
    for algorithm in sorted(given.keys() & true.keys()):
        if given[algorithm] != true[algorithm]:
            raise refusal(code, file, f"{what} has another {algorithm}", expected=true[algorithm], actual=given[algorithm])


def _check_serialization(value: Json, file: str) -> None:
    fields = strictjson.fields(
        value, "serialization", file, "statement-shape", {"method", "hash_type", "allow_symlinks"}, {"ignore_paths", "shard_size"}
    )
    for key, wanted, code in (
        ("method", "files", "manifest-method"),
        ("hash_type", "sha256", "manifest-hash"),
        ("allow_symlinks", False, "manifest-symlinks"),
    ):
        if type(fields[key]) is not type(wanted) or fields[key] != wanted:
            raise refusal(code, file, f"a manifest with another {key}", expected=wanted, actual=fields[key])


def _entries(resources: Json, file: str) -> tuple[Entry, ...]:
    if not isinstance(resources, list) or not resources:
        raise refusal("manifest-empty", file, "the manifest lists no files")
    entries = tuple(_entry(resource, file) for resource in resources)
    listed = [entry.name for entry in entries]
    if twice := [name for name, count in Counter(listed).items() if count > 1]:
        raise refusal("manifest-repeats", file, "the manifest lists a file twice", actual=twice[0])
    if pairs := names.collisions(listed):
        raise refusal("name-collision", pairs[0][1], "signed beside a name that some file systems take for it", expected=pairs[0][0])
    if listed not in (sorted(listed), sorted(listed, key=lambda name: name.split("/"))):
        raise refusal("manifest-order", file, "the files of the manifest are not in order")
    return entries


def _entry(resource: Json, file: str) -> Entry:
    if not isinstance(resource, dict):
        raise refusal("statement-shape", file, "a resource is not a JSON object")
    name, digest, algorithm = (resource.get(key) for key in ("name", "digest", "algorithm"))
    if not isinstance(name, str):
        raise refusal("statement-shape", file, "a resource has no name")
    if wrong := names.complaint(name):
        raise refusal(wrong[0], name, f"signed, but {wrong[1]}")
    if names.reserved(name):
        raise refusal("name-reserved", name, "a signed file under a reserved name")
    if algorithm != "sha256" or not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise refusal("manifest-hash", file, f"no SHA-256 for {name}", expected="sha256, 64 hex digits", actual=f"{algorithm} {digest}")
    return Entry(name, digest)


def _release(value: Json, file: str) -> Release:
    code = "release-format"
    version = value.get("format") if isinstance(value, dict) else None
    if type(version) is not int or version != FORMAT:
        raise refusal(code, file, "release data in an unknown format", expected=FORMAT, actual=version)
    fields = strictjson.fields(value, "the release", file, code, {"format", "releaseId", "sequence", "created", "requiredClaims"}, {"name"})
    release_id, sequence, created, required = (fields[key] for key in ("releaseId", "sequence", "created", "requiredClaims"))
    if not isinstance(release_id, str) or not isinstance(sequence, int) or not isinstance(created, str) or not isinstance(required, list):
        raise refusal(code, file, "the release has a field of another type")
    name = fields.get("name", None)
    if "name" in fields and not isinstance(name, str):
        raise refusal(code, file, "the release's name is not a text")
    try:
        moment = strictjson.read_time(created)
        return checked(Release(release_id, sequence, moment, _required(required, file), None if name is None else str(name)))
    except ValueError as error:
        raise refusal(code, file, f"the release has a wrong field: {error}") from None


def _required(values: list[Json], file: str) -> tuple[RequiredClaim, ...]:
    claims = []
    for value in values:
        fields = strictjson.fields(value, "a required claim", file, "release-format", {"predicateType", "payloadSha256"}, set())
        predicate_type, digest = fields["predicateType"], fields["payloadSha256"]
        if not isinstance(predicate_type, str) or not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise refusal("release-format", file, "a required claim without predicate type or SHA-256")
        claims.append(RequiredClaim(predicate_type, digest))
    return tuple(claims)


def checked(release: Release) -> Release:
    """``release`` itself, if its values may stand in a signature. Raises ValueError."""
    if not 0 < len(release.release_id) <= 200 or not release.release_id.isprintable():
        raise ValueError("a release id is 1 to 200 visible characters")
    if release.name is not None and not (release.name and release.release_id.startswith(f"{release.name}-")):
        raise ValueError("the id of a release with a name begins with the name and a hyphen")
    if isinstance(release.sequence, bool) or not 0 <= release.sequence < 2**53:
        raise ValueError("a sequence is a whole number from 0 to 2**53 - 1")
    if release.created.tzinfo is None:
        raise ValueError("the time of creation needs a time zone")
    return release
