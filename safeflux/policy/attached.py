"""Files that a policy names, of prompts and of pictures: they belong to what was asked for, and so does what is in them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safeflux.errors import PlanError
from safeflux.options import options
from safeflux.policy.model import Choice, Policy
from safeflux.policy.places import place

FILE = "file"  # the option of an attack that names one
SHOWN, OTHERS = "shown", "others"  # the folders of a concept's labelled pictures
LEAST, MOST = 3, 1000  # photographs: of fewer, no distance of distributions can be had; no more are taken of a folder
KINDS = (".png", ".jpg", ".jpeg", ".webp")


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


def pictures(folder: Path) -> list[Path]:
    """The pictures in ``folder``, by name; none where it is none."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in KINDS) if folder.is_dir() else []


def photographs(policy: Policy) -> tuple[list[Path], int]:
    """The photographs that are taken of the policy's folder, spread evenly over the names in it, and of how many."""
    found = [] if policy.audit.photographs is None else pictures(Path(policy.audit.photographs))
    some = [found[i * len(found) // MOST] for i in range(MOST)] if len(found) > MOST else found
    return some, len(found)


def refuse(policy: Policy) -> None:
    """Raises PlanError for a folder that the policy names and that does not hold the pictures it should."""
    for concept in policy.concepts:
        for kind in (SHOWN, OTHERS) if concept.labelled is not None else ():
            where = f"{place(policy, 'concepts')}concepts: {concept.name}: labelled"
            _refuse(Path(str(concept.labelled)) / kind, where, f"labelled pictures in the folders {SHOWN}/ and {OTHERS}/", 1)
    if policy.audit.photographs is not None:
        where = f"{place(policy, 'audit', 'photographs')}audit.photographs"
        _refuse(Path(policy.audit.photographs), where, f"at least {LEAST} photographs of what must stay", LEAST)


def _refuse(folder: Path, where: str, wanted: str, least: int) -> None:
    if (n := len(pictures(folder))) < least:
        came = f"{folder} holds {n or 'no'} pictures" if folder.is_dir() else f"there is no folder {folder}"
        raise PlanError(f"{where}: {came}; wanted: {wanted} ({', '.join(KINDS)})")
