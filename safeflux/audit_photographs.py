"""Photographs of what must stay, from elsewhere: what both models' pictures are laid beside to tell which of them is farther off."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from safeflux.audit_pictures import opened, read
from safeflux.files import source_digest
from safeflux.instruments import Embedder, Photographs
from safeflux.policy import Policy, attached

if TYPE_CHECKING:
    from numpy.typing import NDArray

DRAWN = 20  # pictures of each thing that the mini's world draws for the purpose


def photographed(policy: Policy) -> bool:
    """Whether there are photographs: the policy's, or for the mini what its world draws of the things that must stay."""
    return policy.audit.photographs is not None or (policy.base.embedded and bool(_known(policy)))


def photographs(policy: Policy, embed: Callable[[], Embedder]) -> Photographs | None:
    """What there is, embedded once when first asked for. Raises StageError for one that is broken."""
    if not photographed(policy):
        return None
    if policy.audit.photographs is None:
        told = f"beside {DRAWN} pictures of each of {len(_known(policy))} things that must stay, by the drawn world"
        return Photographs(told, cache(lambda: np.concatenate([embed().images(_drawn(label)) for label in _known(policy)])))
    some, n = attached.photographs(policy)
    for path in some:
        with opened(path):  # a file that does not even begin like a picture is told now, not when everything is drawn
            pass
    told = f"beside {len(some)} of {n} photographs (sha256 {source_digest(*some)})"
    return Photographs(told, cache(lambda: np.concatenate([embed().images(read(path)) for path in some])))


def _known(policy: Policy) -> list[str]:
    """What must stay of what the drawn world has."""
    from safeflux.mini.world import LABELS

    return [label for label in policy.retain if label in LABELS]


@cache
def _drawn(label: str) -> NDArray[np.uint8]:
    from safeflux.mini.labelled import labelled

    return labelled(label, DRAWN)[0]
