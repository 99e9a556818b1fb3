"""What a base model's licence demands of whatever is made from it. Imports no torch, and reads names and the first lines of texts only.

FLUX.1 [schnell] is under Apache-2.0: what is changed must be said. FLUX.1 [dev] and its kin (Krea, Kontext, Fill, Depth, Canny) are under
the FLUX.1 [dev] Non-Commercial License: a derivative goes on under the same terms, with a copy of them, an attribution notice and a
statement that it was modified.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from safeflux.errors import PolicyError
from safeflux.policy.attached import folder
from safeflux.policy.model import Concept, Policy
from safeflux.policy.places import place

DEV: Final = "flux-1-dev-non-commercial-license"  # as the hub calls it
Terms = Literal["apache-2.0", "flux-1-dev-non-commercial-license", "unknown"]
NOTICE = "NOTICE-SAFEFLUX.md"

_SAYS_DEV = ("other", DEV)  # what a policy may say of a release that is made from it
_TEXTS = ("LICENSE", "LICENCE")
_HEAD = 4000  # characters of a licence's text that are looked at


@dataclass(frozen=True)
class Licence:
    """``terms``: which; ``because``: what told; ``file``: its text beside the model, None where there is none."""

    terms: Terms
    because: str
    file: str | None = None

    @property
    def non_commercial(self) -> bool:
        return self.terms == DEV


UNKNOWN = Licence("unknown", "nobody looked")


def detect(model: str, directory: Path | None) -> Licence:
    """The licence of a base model: by the text in its ``directory``, else by its name, else by its being guidance-distilled, as [dev] is.

    ``model``: as the policy writes it; ``directory``: None while it has to be downloaded.
    """
    for path in _texts(directory):
        head = " ".join(path.read_text(encoding="utf-8", errors="replace")[:_HEAD].split()).lower()
        if "non-commercial" in head and "flux" in head:
            return Licence(DEV, f"{path.name} in its directory", path.name)
        if "apache license" in head and "2.0" in head:
            return Licence("apache-2.0", f"{path.name} in its directory", path.name)
    beside = next((path.name for path in _texts(directory)), None)
    if model == "builtin:flux-mini":
        return Licence("apache-2.0", "it comes with SafeFlux", beside)
    named = re.search(r"flux\.?1[-_](schnell|dev|krea|kontext|fill|depth|canny|redux)", model.lower())
    if named:
        return Licence("apache-2.0" if named[1] == "schnell" else DEV, f'its name, "{model}"', beside)
    if directory is not None and _distilled(directory):
        return Licence(DEV, "its transformer takes guidance (guidance_embeds), as FLUX.1 [dev] does", beside)
    return Licence("unknown", "neither its name nor a text beside it tells", beside)


def _texts(directory: Path | None) -> Iterator[Path]:
    if directory is not None and directory.is_dir():
        yield from sorted(path for path in directory.iterdir() if path.is_file() and path.name.upper().startswith(_TEXTS))


def _distilled(directory: Path) -> bool:
    try:
        return bool(json.loads((directory / "transformer" / "config.json").read_text(encoding="utf-8")).get("guidance_embeds"))
    except (OSError, ValueError, AttributeError):
        return False


def relabelled(licence: Licence, said: str | None) -> str:
    """What is wrong with a release that says its licence is ``said``; empty if nothing is."""
    if licence.non_commercial and said is not None and said.lower() not in _SAYS_DEV:
        return (
            f'came "{said}"; the base model is under the FLUX.1 [dev] Non-Commercial License ({licence.because}), and so is what is made '
            f"from it; wanted: {DEV}, or no license at all"
        )
    return ""


def gate(policy: Policy, directory: Path | None = None) -> Licence:
    """The licence of the policy's base model, which lies in ``directory``, or where the policy says. Raises PolicyError for a release that
    calls itself by another one than its base allows."""
    model = policy.base.model
    local = policy.base.revision is None and not policy.base.embedded
    found = detect(model, directory or (folder(policy) / Path(model).expanduser() if local else None))
    if wrong := relabelled(found, policy.report.license):
        raise PolicyError([f"{place(policy, 'report', 'license')}report.license: {wrong}"])
    return found


def notice(concepts: Sequence[Concept]) -> str:
    """``NOTICE-SAFEFLUX.md`` of a release made from a non-commercial base: attribution, and that it was modified.

    The wording of the attribution is what the FLUX.1 [dev] Non-Commercial License asks for; where the base's own text has another, that
    text is in the release too, and counts.
    """
    erased = ", ".join(concept.name for concept in concepts)
    return (
        "The FLUX.1 [dev] Model is licensed by Black Forest Labs. Inc. under the FLUX.1 [dev] Non-Commercial License. Copyright Black "
        "Forest Labs. Inc. IN NO EVENT SHALL BLACK FOREST LABS, INC. BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN "
        "ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH USE OF THIS MODEL.\n\n"
        "This is a modified version, not the original: with SafeFlux, its transformer's weights were changed so that it no longer draws "
        f"{erased}. It is not endorsed by Black Forest Labs, and may be used for non-commercial purposes only, under the terms of the "
        "licence that is beside it.\n"
    )
