"""Files that a policy's attacks work with: they belong to what was asked for, and so does what is in them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safeflux.errors import PlanError
from safeflux.options import options
from safeflux.policy.model import Choice, Policy
from safeflux.policy.places import place

FILE = "file"  # the option of an attack that names one


def folder(policy: Policy) -> Path:
    """Where relative paths of a policy start."""
    return policy.source.parent if policy.source else Path()


def digests(policy: Policy, attack: Choice) -> dict[str, str]:
    """sha256 of the file that ``attack`` works with, by option; empty for one that takes none. Raises PlanError if it is not there."""
    if FILE not in options("attack", attack.name):
        return {}
    named = attack.options.get(FILE)
    path = folder(policy) / Path(str(named or "")).expanduser()
    if not named or not path.is_file():
        came = f"there is no file {path}" if named else "no file was named"
        raise PlanError(
            f"{place(policy, 'audit', 'attacks')}the attack {attack.name}: {came}; wanted: {attack.name}: {{{FILE}: ./name.csv}}"
        )
    return {f"{FILE}_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
