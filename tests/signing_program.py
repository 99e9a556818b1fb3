"""A program that signs what it reads, as a key service's would: sign.py KEY HOW, where the tests start it.

HOW is "digest" or "message", "base64" for a digest answered in base64; all else is a way to fail.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

SCRIPT = """
import base64, os, sys, time
from pathlib import Path
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

key, how, read = serialization.load_pem_private_key(Path(sys.argv[1]).read_bytes(), None), sys.argv[2], sys.stdin.buffer.read()
if how == "locked":
    sys.exit("not logged in: run login first")
if how == "killed":
    os.kill(os.getpid(), 9)
if how == "slow":
    time.sleep(60)
if how == "message":
    made = key.sign(read)
elif how == "hashes":
    made = key.sign(read, ec.ECDSA(SHA256()))
elif how in ("digest", "base64", "high"):
    digest = {32: SHA256, 48: SHA384, 64: SHA512}[len(read)]()
    made = key.sign(read, ec.ECDSA(utils.Prehashed(digest)))
    if how == "high":
        r, s = utils.decode_dss_signature(made)
        made = utils.encode_dss_signature(r, max(s, key.curve.group_order - s))
else:
    made = {"silent": b"", "chatty": b"signed: " + read, "raw": bytes(64)}[how]
sys.stdout.buffer.write(base64.encodebytes(made) if how == "base64" else made)
"""


def name(reads: str, key: Path, how: str, public: Path | None = None) -> str:
    """What such a key is called; ``key`` is the file that the program signs with, its public half lies beside it."""
    script = key.parent / "sign here.py"
    script.write_text(SCRIPT)
    words = [str(public or key.with_suffix(".pub")), sys.executable, str(script), str(key), how]
    return f"exec:{reads} {shlex.join(words)}"
