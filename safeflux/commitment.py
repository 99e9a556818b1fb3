"""The policy is fixed before the audit is begun: signed by its digest, with the time, and kept in ``work/`` until the release.

What a publisher fixes and when is its own word, and it could audit elsewhere first. What is held fast here: in one workspace,
a policy that is changed after an audit leaves a trace in the release. Whoever wants more than that hands the line over, or
publishes it, before the audit; the release then has to hold that very line.
"""

from __future__ import annotations

import hashlib
import os
import time
from datetime import UTC, datetime
from pathlib import Path

from safeflux.errors import PlanError, StageError
from safeflux.files import write_atomic
from safeflux.policy import Policy
from safeflux_signing import commitments
from safeflux_signing.commitments import Commitment, Fixed
from safeflux_signing.errors import SigningError
from safeflux_signing.signers import AnySigner

FILE = "commitment.jsonl"


def source_date() -> int | None:
    """The date a release shall bear if it is to be the same bytes wherever and whenever it is made (reproducible-builds.org)."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given and not given.isdecimal():
        raise PlanError(f"SOURCE_DATE_EPOCH is {given!r}; wanted whole seconds since 1970, or nothing")
    return int(given) if given else None


def fix(policy: Policy, work: Path, out: Path, signer: AnySigner) -> None:
    """``commitment.jsonl``: the policy's digest and the time, signed; in the release, the first line of the claims.

    It names the policies that were fixed in this workspace before and audited: whoever saw the numbers and then moved the
    limits has to say so. Raises StageError where the key does not sign.
    """
    earlier: tuple[Fixed, ...] = ()
    before = work / "commit" / FILE
    if before.is_file() and any(work.glob("audit*")):
        old, _ = commitments.line(before.read_bytes())
        earlier = tuple(one for one in (*old.earlier, old.fixed) if one.sha256 != policy.digest)
    fixed = Fixed(policy.digest, datetime.fromtimestamp(_now(), UTC))
    try:
        line = commitments.seal(Commitment(f"policy {policy.name}", fixed, earlier), signer)
    except SigningError as error:
        raise StageError(f"the policy cannot be fixed:\n{error}") from error
    (out / FILE).write_bytes(line)


def audit_begun(work: Path, scratch: Path) -> int:
    """When the audit under the policy that is fixed now was first begun (seconds since 1970), also after a kill.

    ``scratch`` keeps it. Raises StageError if the clock says that this is before the policy was fixed.
    """
    line = (work / "commit" / FILE).read_bytes()
    begun = scratch / f"begun-{hashlib.sha256(line).hexdigest()[:16]}"
    if not begun.is_file():
        now, fixed = _now(), commitments.line(line)[0].fixed.time
        if now < fixed.timestamp():
            raise StageError(
                f"the policy was fixed at {fixed}, and this machine's clock says that it is earlier now: set the clock right, or, "
                f"if it was wrong then, remove {work / 'commit'} to have the policy fixed anew"
            )
        write_atomic(begun, f"{now}\n")
    return int(begun.read_text(encoding="utf-8"))


def _now() -> int:
    dated = source_date()
    return int(time.time()) if dated is None else dated
