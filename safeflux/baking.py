"""The stage that bakes: the edit in plain weights, in the layout that the policy chose, and how near they draw to the edited model."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from safeflux.errors import StageError
from safeflux.files import digest
from safeflux.policy import Policy
from safeflux.stages import Run, read_json, write_json
from safeflux_signing import signers
from safeflux_signing.errors import SigningError

if TYPE_CHECKING:
    from safeflux.layouts import Layout
    from safeflux_signing.signers import AnySigner

_ORDER = "order.json"  # stays in work/


def asked(policy: Policy, signer: AnySigner) -> dict[str, object]:
    """What of policy and signer the result depends on."""
    wanted = list(_directories(policy))
    moved = policy.bake.decoys or "removed" in wanted
    return {
        "bake": asdict(policy.bake),
        "directories": wanted,
        "kept": _kept(policy),
        "signer": signers.ident(signer) if moved else None,
    }


def bake(run: Run, out: Path, scratch: Path, signer: AnySigner) -> None:
    """``dense/`` and ``removed/``, those of them that are asked for: the base with the edit in its weights.

    ``parity.json``: how near their latents are to the edited model's; ``difference.json``: what the edit took; ``preserved.json``: the
    SHA-256 of every file that stays the base's. With neurons in a random order also ``order.json``, what that was drawn from.
    """
    from safeflux.bake import bake as write
    from safeflux.bake import parity
    from safeflux.edits import edited, load_edit
    from safeflux.exporters.diffusers import preserved
    from safeflux.minimality import difference
    from safeflux.prepare import load_task

    policy, source = run.policy, Path(run.plan.model_dir)
    edit, base = load_edit(run.path("erase", "edit.safetensors")), run.load()
    task = load_task(policy, run.plan, run.path("prepare"), device=str(base.device))
    found = []
    for name in _directories(policy):
        write(source, edit, out / name, _layout(run, out, name, signer), kept=_kept(policy))
        found.append(parity(base, run.load(out / name), edit, task))
    worst = max(found, key=lambda one: one["max_relative_error"])
    write_json(out / "parity.json", {**worst, "layout": policy.bake.layout, "decoys": policy.bake.decoys})
    write_json(out / "difference.json", difference(source / "transformer", edited(edit, source / "transformer")))
    write_json(out / "preserved.json", preserved(source))


def _directories(policy: Policy) -> Iterator[str]:
    """What is written: the layout of the release's root, the other one for whoever exports it, and ``dense`` for all other formats."""
    names = {one.name for one in policy.exports} - {"diffusers"}
    if policy.bake.layout == "dense" or names - {"removed"}:
        yield "dense"
    if policy.bake.layout == "removed" or "removed" in names:
        yield "removed"


def _layout(run: Run, out: Path, name: str, signer: AnySigner) -> Layout:
    from safeflux.layouts import DENSE, Layout

    settings = run.policy.bake
    if name == "removed":
        return Layout("removed", multiple=settings.multiple, secret=_secret(run, out, signer))
    return Layout(decoys=True, secret=_secret(run, out, signer)) if settings.decoys else DENSE


def _secret(run: Run, out: Path, signer: AnySigner) -> bytes:
    """What the random order of neurons is drawn from: a signature, published nowhere, over the digest of the edit, or mere chance.

    Nobody without the key can make it. The same key (ECDSA, Ed25519) signs the same edit alike, so that two runs of a policy, or one that
    was interrupted, end in the same bytes. Keys whose signatures differ each time (ML-DSA, some tokens) draw from the randomness that is
    in them; where Sigstore's signers sign, who keep no key and publish what they sign, the randomness is this machine's. What was
    drawn is kept in ``work/`` for when the stage is done again.
    """
    known = {"edit": digest(run.path("erase", "edit.safetensors")), "signer": signers.ident(signer)}
    for path in (out / _ORDER, run.path("bake", _ORDER)):
        if path.is_file() and (kept := read_json(path)).items() >= known.items():
            write_json(out / _ORDER, kept)
            return bytes.fromhex(kept["secret"])
    secret = hashlib.sha256(_drawn(known["edit"], signer)).hexdigest()
    write_json(out / _ORDER, {**known, "secret": secret})
    return bytes.fromhex(secret)


def _drawn(edit: str, signer: AnySigner) -> bytes:
    if isinstance(signer, signers.Certified):
        return secrets.token_bytes(32)
    try:
        return signers.signer_of(signer).sign(f"safeflux, order of neurons, never published: {edit}".encode())
    except SigningError as error:
        raise StageError(f"the order of neurons cannot be drawn, since the key does not sign:\n{error}") from error


def _kept(policy: Policy) -> bool:
    """Whether the release says which neurons it kept: where the base is public, anybody can see it anyway."""
    public = policy.base.embedded or policy.base.revision is not None
    return policy.bake.kept == "always" or (policy.bake.kept == "if-public" and public)
