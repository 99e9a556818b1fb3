"""Changes to a trust store: add a key, drop it, revoke it, put another in its place. Each takes a store and gives a new one.

A rotation statement is how a publisher hands over to a new key: it names the new key and the keys it replaces, and is
signed by every one of these, one DSSE bundle per line over the same payload. It gives the new key what the old ones had
and nothing more, and only where all of them are trusted now: so a revoked key can name no heir, and an old statement that
is found again does nothing. The new key's own consent is not in it.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from safeflux_signing import dsse, keys, linefiles, manifest, signers, smallfiles, strictjson
from safeflux_signing.errors import gravest, refusal
from safeflux_signing.trust import Revocation, TrustedKey, TrustStore, standing

ROTATION = "urn:safeflux:key-rotation:v1"
MAX_BYTES = 1 << 20

_SUBJECT = "a signing key"


def add(store: TrustStore, entry: TrustedKey) -> TrustStore:
    """Raises InputError (trust-repeated): a key that stands there is not changed by adding it, least of all a revoked one."""
    if store.entry(entry.key_id):
        raise refusal("trust-repeated", "the trust file", "the key stands there already", actual=entry.key_id)
    return replace(store, entries=(*store.entries, entry))


def drop(store: TrustStore, key_id: str) -> TrustStore:
    """Raises InputError (trust-absent)."""
    _wanted(store, key_id)
    return replace(store, entries=tuple(entry for entry in store.entries if entry.key_id != key_id))


def revoke_key(store: TrustStore, key_id: str, why: Revocation) -> TrustStore:
    """Raises InputError: trust-absent; trust-repeated if it is revoked already (the first reason and date stay)."""
    if _wanted(store, key_id).revoked:
        raise refusal("trust-repeated", "the trust file", "the key is revoked already", actual=key_id)
    return replace(store, entries=tuple(replace(e, revoked=why) if e.key_id == key_id else e for e in store.entries))


def revoke_release(store: TrustStore, release_id: str, why: Revocation) -> TrustStore:
    """Raises InputError (trust-repeated)."""
    if release_id in dict(store.revoked_releases):
        raise refusal("trust-repeated", "the trust file", "the release is revoked already", actual=release_id)
    return replace(store, revoked_releases=(*store.revoked_releases, (release_id, why)))


def rotation(old: Sequence[signers.SigningKey], new: keys.PublicKey) -> bytes:
    """A rotation statement: ``new`` takes the place of all ``old`` keys. Raises InputError: key-wanted, signer-failed, trust-repeated."""
    replaced = sorted({keys.key_id(signers.signer_of(key).public_key()) for key in old})
    if len(replaced) != len(old) or keys.key_id(new) in replaced or not old:
        raise refusal("trust-repeated", "the rotation", "wanted one or more old keys, all different, and another new one")
    predicate = {"replaces": replaced, "public": base64.b64encode(keys.public_der(new)).decode("ascii")}
    payload = manifest.statement(_SUBJECT, {"sha256": keys.key_id(new)}, ROTATION, predicate)
    return b"".join(dsse.line(payload, key) for key in old)


def read_statement(path: Path) -> bytes:
    """The rotation statement in ``path``. Raises InputError (rotation-unreadable)."""
    return smallfiles.read(path, MAX_BYTES, "rotation-unreadable")


def rotate(store: TrustStore, statement: bytes, now: datetime, file: str) -> tuple[TrustStore, TrustedKey]:
    """``store`` after the rotation ``statement``, in which the old keys are revoked; and the new key's entry.

    Raises UnsafeReleaseError for what is no rotation statement, BadSignatureError and UntrustedKeyError as ``verify`` does,
    RevokedError where an old key is not trusted now, InputError (trust-repeated) where the new key stands in the store.
    """
    signed, payload = _signers(store, statement, file)
    replaced, new = _read(payload, file)
    if len(signed) != len(replaced) or sorted(set(signed)) != replaced:
        raise refusal(
            "rotation-shape", file, "not signed by just the keys it replaces", expected=", ".join(replaced), actual=", ".join(signed)
        )
    entries = [_wanted(store, key_id) for key_id in replaced]
    if findings := [finding for entry in entries for finding in standing(entry, None, now, file, "the rotation")]:
        raise gravest(findings)
    heirs = [replace(entry, key=new) for entry in entries]
    if any(heir != heirs[0] for heir in heirs):
        raise refusal("rotation-shape", file, "the keys that it replaces are not trusted for the same things")
    store = add(store, heirs[0])
    why = Revocation(f"replaced by key {heirs[0].key_id}", now.replace(microsecond=0))
    for key_id in replaced:
        store = revoke_key(store, key_id, why)
    return store, heirs[0]


def _signers(store: TrustStore, statement: bytes, file: str) -> tuple[list[str], bytes]:
    """The ids of all that signed, each once, and the payload they signed."""
    lines, whole = linefiles.split(statement, file)
    if not whole:
        raise refusal("json-not-canonical", file, "the statement is empty, or its last line is cut short")
    bundles = [dsse.loads(line, file) for line in lines]
    if len({bundle.payload for bundle in bundles}) != 1:
        raise refusal("rotation-shape", file, "its lines are not about the same thing")
    signed = []
    for line, bundle in zip(lines, bundles, strict=True):
        key = dsse.signer(bundle, store.public_keys, file, "the rotation")
        if not dsse.written_one_way(bundle, key, line):
            raise refusal("json-not-canonical", file, "the statement is not written the one way statements are written")
        signed.append(keys.key_id(key))
    return signed, bundles[0].payload


def _read(payload: bytes, file: str) -> tuple[list[str], keys.PublicKey]:
    """The ids of the keys that are replaced, and the new key."""
    code = "rotation-shape"
    subject, predicate_type, predicate = manifest.read_statement(payload, file)
    if predicate_type != ROTATION:
        raise refusal(code, file, "a statement of another type", expected=ROTATION, actual=predicate_type)
    values = strictjson.fields(predicate, "the rotation", file, code, {"replaces", "public"}, set())
    replaced, public = values["replaces"], values["public"]
    if not isinstance(public, str) or not isinstance(replaced, list) or not all(isinstance(one, str) for one in replaced):
        raise refusal(code, file, "the rotation has a field of another type")
    new = keys.read_text(public, file)
    if subject["digest"] != {"sha256": keys.key_id(new)} or base64.b64encode(keys.public_der(new)).decode("ascii") != public:
        raise refusal(code, file, "the statement is not about the key that is in it", expected=keys.key_id(new))
    return [str(one) for one in replaced], new


def _wanted(store: TrustStore, key_id: str) -> TrustedKey:
    if entry := store.entry(key_id):
        return entry
    raise refusal("trust-absent", "the trust file", "the key does not stand there", actual=key_id)
