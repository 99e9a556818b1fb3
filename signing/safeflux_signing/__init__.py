"""Sign a directory of files, and tell later whether it is still what was signed. Offline, and for any model.

    sign.py      sign(directory, key, release_id=..., sequence=..., claims=[...]): the publisher's door; cosign and add_claim for others
    verify.py    verify(directory, trust) -> Verified, or raises: the user's door
    requirements.py   what a user asks beyond that: claims, age, limits on what was measured
    copies.py    private copies of verified files, for whoever loads them
    vsa.py       a summary of a verification, to hand on
    unverified.py     what a directory says of itself, unchecked

    trust.py     whom a user trusts, for what, until when; how many must have signed
    trustfile.py, trustchanges.py   trust as a file; adding, revoking and rotating keys in it
    seen.py      which releases were seen, so that older ones are refused
    keys.py      make, store and read keys; the id of a key
    signers.py   whoever signs: a private key in a file, on a token, behind a service; or a certificate for the occasion
    keynames.py  what those are called that lie in no file: on a token, behind a program, Sigstore's
    pkcs11.py, pkcs11uri.py   a key on a token, and what such a key is called
    program.py   a key behind a program: a key service, a vault
    reasons.py   every reason for a refusal: its code, its exit code, what to do about it
    errors.py    the errors that carry those findings

    manifest.py  the signed list of files (OpenSSF Model Signing v1.0) and what a release says of itself
    claims.py    signed statements about the same files: provenance, test results, anything
    commitments.py    a claim made before there were files: what was fixed, and when
    keyless.py   signatures with a Sigstore certificate, verified offline
    keyless_signing.py    such signatures, made: the one module that talks to a network
    cosignatures.py   further signatures on the same manifest
    dsse.py      the signature envelope around all of them
    tree.py      the closed world on disk: walk, open without following links, hash
    names.py     which file names a release may have
    strictjson.py, pbes2.py, smallfiles.py   JSON that means one thing; an encrypted key file that OpenSSL reads; files written whole

Standard library and ``cryptography`` only. Nothing here knows what the files are for, prints, or, but for
``keyless_signing.py``, opens a socket.
"""
