"""Further signatures on the same manifest, for those who trust no single key.

``signatures.jsonl`` holds one DSSE bundle per line over the very bytes that ``model.sig`` signs. One file with lines, as for
claims, and no directory of bundles: there are no names to check, whoever signs adds a line and touches nothing, and each line
is a complete OpenSSF bundle that other verifiers read with its key. As in ``claims.jsonl``, every line must be by a key the
user gave, so that nothing in a release is there unvouched for. ``sign.cosign`` writes it.
"""

from __future__ import annotations

from collections.abc import Sequence

from safeflux_signing import dsse, keys, linefiles, names
from safeflux_signing.errors import Finding, refusal

FILE = names.COSIGNATURES


def check(
    data: bytes | None, payload: bytes, signer: keys.PublicKey, public_keys: Sequence[keys.PublicKey]
) -> tuple[tuple[keys.PublicKey, ...], list[Finding]]:
    """Who beside ``signer`` signed ``payload``, by ``data`` (the content of the file, None if there is none); and all that is wrong.

    Raises SigningError where that is too much to go on, as ``linefiles.read`` does.
    """
    have = {keys.key_id(signer): signer}

    def take(line: bytes) -> None:
        key = _signer(line, payload, public_keys)
        if (key_id := keys.key_id(key)) in have:
            raise refusal("cosignature-repeated", FILE, "by a key that has signed already", actual=key_id)
        have[key_id] = key

    findings = linefiles.read(data, FILE, take)
    return tuple(have.values())[1:], findings


def _signer(line: bytes, payload: bytes, public_keys: Sequence[keys.PublicKey]) -> keys.PublicKey:
    bundle = dsse.loads(line, FILE)
    key = dsse.signer(bundle, public_keys, FILE, "the co-signature")
    if not dsse.written_one_way(bundle, key, line):
        raise refusal("json-not-canonical", FILE, "the signature is not written the one way this format is written")
    if bundle.payload != payload:
        raise refusal("cosignature-payload", FILE, f"it signs something else than {names.SIGNATURE} does")
    return key
