"""Sign a directory of files, and tell later whether it is still what was signed. Offline, and for any model.

    sign.py      sign(directory, key, release_id=..., sequence=..., claims=[...]): the publisher's door
    verify.py    verify(directory, public_keys) -> Verified, or raises: the user's door
    requirements.py   what a user asks beyond that: claims, age, limits on what was measured
    copies.py    private copies of verified files, for whoever loads them
    vsa.py       a summary of a verification, to hand on
    unverified.py     what a directory says of itself, unchecked

    keys.py      make, store and read keys; the id of a key
    reasons.py   every reason for a refusal: its code, its exit code, what to do about it
    errors.py    the errors that carry those findings

    manifest.py  the signed list of files (OpenSSF Model Signing v1.0) and what a release says of itself
    claims.py    signed statements about the same files: provenance, test results, anything
    dsse.py      the signature envelope around both
    tree.py      the closed world on disk: walk, open without following links, hash
    names.py     which file names a release may have
    strictjson.py, pbes2.py   JSON that means one thing; an encrypted key file that OpenSSL reads

Standard library and ``cryptography`` only. Nothing here knows what the files are for, prints, or opens a socket.
"""
