"""Releases across versions of diffusers and transformers: the second table of docs/exports.md, each row found out by running it.

A base is saved by one version, released here, and loaded by both, each in a process of its own (``tests/older.py``).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from older import DONE, run
from safetensors.torch import load_file
from test_bake import random_mask
from torch import Tensor

import safeflux
from safeflux.bake import bake
from safeflux.exporters.diffusers import diffusers
from safeflux.layouts import Layout

ROOT = str(Path(safeflux.__file__).parent.parent)
EMBEDDINGS, LATENTS = 1e-6, 1e-5  # of the largest number, the latter after all steps: what versions may differ by
NO_VOCABULARY = (  # of CLIP's tokenizer or of T5's: either is loaded first
    "TypeError: expected str, bytes or os.PathLike object, not NoneType",
    "ValueError: Either model_file or model_proto must be specified.",
)


@dataclass(frozen=True)
class Versions:
    """Bases and releases in ``work``, and what both versions make of them; ``older``: the Python of the one that is not this one."""

    work: Path
    older: str

    @cached_property
    def bases(self) -> dict[str, Path]:
        """By which version saved it: "4"; "4, no prefix", T5's tokenizer not told of a space before texts; "5", loaded from "4" and
        saved; "5, own CLIP", where that is all that 5 saved, of a model made by itself."""
        found = {name: self.work / name.replace(", ", "-").replace(" ", "-") for name in ("4", "4, no prefix", "5", "5, own CLIP")}
        made = run(self.older, ("save", str(found["4"]), "yes"), ("save", str(found["4, no prefix"]), ""))
        made += run(
            sys.executable, ("again", str(found["4"]), str(found["5"])), ("own_clip", str(found["4"]), str(found["5, own CLIP"]))
        )  # fmt: skip
        assert made == [DONE] * 4, made
        return found

    @cached_property
    def places(self) -> dict[tuple[str, str], Path]:
        """Where each base lies (layout "base"), and its releases in every layout, of which a third was erased."""
        found = {(name, "base"): base for name, base in self.bases.items()}
        for name, base in self.bases.items():
            for layout in ("dense", "removed"):
                out = self.work / f"{base.name}-{layout}"
                bake(base, random_mask(base, closed=0.3), out / "baked", Layout(layout, secret=b"s"), kept=True)
                diffusers(out / "baked", out / "root", base=base)
                found[name, layout] = out / "root"
        return found

    @cached_property
    def drawn(self) -> dict[tuple[str, str, str], dict[str, Tensor] | str]:
        """By base, layout, and who drew it: "older" or "current", and either after ``import safeflux``. Of what failed, its error."""
        found: dict[tuple[str, str, str], dict[str, Tensor] | str] = {}
        for who, python in (("older", self.older), ("current", sys.executable)):
            todo = [(*key, f"{who}{after}") for after in ("", ", safeflux") for key in self.places if (key[1] == "removed") or not after]
            files = [self.work / f"{number}-{who}.safetensors" for number in range(len(todo))]
            orders = [("draw", str(self.places[key[:2]]), str(file)) for key, file in zip(todo, files, strict=True)]
            first = sum("safeflux" not in key[2] for key in todo)
            said = run(python, *orders[:first], ("with_safeflux", ROOT), *orders[first:])
            assert said.pop(first) == DONE
            found |= {key: load_file(file) if one == DONE else one for key, file, one in zip(todo, files, said, strict=True)}
        return found

    def apart(self, key: tuple[str, str, str], other: tuple[str, str, str], what: str = "latents") -> float:
        """The largest difference of two drawings, over the largest number of the second. Asserts that both were drawn."""
        mine, theirs = self.drawn[key], self.drawn[other]
        assert not isinstance(mine, str), mine
        assert not isinstance(theirs, str), theirs
        assert mine[what].isfinite().all()
        return float((mine[what] - theirs[what]).abs().max() / theirs[what].abs().max())


@dataclass(frozen=True)
class Row:
    """One line of the table: of the release in ``layout`` of the base ``saved``, ``who`` says what comes of it; ``says`` is that."""

    saved: str
    layout: str
    who: str
    says: str

    def run(self, versions: Versions) -> str:
        key, wanted = (self.saved, self.layout, self.who), (self.saved, "dense", "current")
        if isinstance(failed := versions.drawn[key], str):
            unread = failed in NO_VOCABULARY and versions.drawn[self.saved, "base", self.who.split(",")[0]] in NO_VOCABULARY
            return "fails, as its base does: its tokenizers are not read" if unread else f"refused: {failed}"
        t5, clip = (versions.apart(key, wanted, what) for what in ("sequence", "pooled"))
        if max(t5, clip) > EMBEDDINGS:
            return "loads; " + ("T5 is given other tokens" if t5 > EMBEDDINGS else "CLIP's weights are not found, and random")
        assert versions.apart(key, wanted) <= LATENTS
        return f"loads; text embeddings within {EMBEDDINGS:g}; latents within {LATENTS:g}"


FOUR, FIVE = "diffusers 0.36, transformers 4.57", "current diffusers and transformers"
SAVED = {
    "4": f"{FOUR}",
    "4, no prefix": f"{FOUR}; T5's tokenizer without `add_prefix_space`",
    "5": f"{FIVE}: loaded and saved again",
    "5, own CLIP": f"{FOUR}; only CLIP by transformers 5, of a model it made",
}
WHO = {"older": FOUR, "current": FIVE}
SAME = f"loads; text embeddings within {EMBEDDINGS:g}; latents within {LATENTS:g}"
UNREAD = "fails, as its base does: its tokenizers are not read"
ROWS = [
    Row("4", "dense", "older", SAME),
    Row("4", "dense", "current", SAME),
    Row("4", "removed", "older", "refused: ModuleNotFoundError: No module named 'safeflux'"),
    Row("4", "removed", "older, safeflux", SAME),
    Row("4", "removed", "current, safeflux", SAME),
    Row("4, no prefix", "dense", "older", "loads; T5 is given other tokens"),
    Row("5", "dense", "current", SAME),
    Row("5", "removed", "current, safeflux", SAME),
    Row("5", "dense", "older", UNREAD),
    Row("5", "removed", "older, safeflux", UNREAD),
    Row("5, own CLIP", "dense", "current", SAME),
    Row("5, own CLIP", "dense", "older", "loads; CLIP's weights are not found, and random"),
]


BEFORE = """\
## Across versions

Releases of bases that either version saved, loaded by both, each in an environment of its own (`tests/exporters/test_versions.py`: a tiny
random FLUX.1-dev in shards, a third of it erased). All but `transformer/`, `model_index.json` and the list of kept neurons is the base's,
byte for byte: what reads a base reads the release of it, and what does not read the base cannot read the release either. *Within*: of the
largest number, of what the current versions make of the dense release.
"""
AFTER = """\

Whoever publishes a base for older readers, too, saves it with transformers 4, or copies its tokenizers and text encoders byte for byte.
`safeflux plan`, and a release when it begins, tell of a base that transformers 4 does not read. Saved by transformers 5, tokenizers lack
files that transformers 4 reads, and the weights of a CLIP that transformers 5 made and did not load have names that transformers 4 does not
know: it goes on with random ones, and only warns. A T5 tokenizer that transformers 4 saved without `add_prefix_space` reads the beginning
of a text otherwise in transformers 5. An ONNX export is no copy: its tokenizers are written so that transformers 4, which optimum needs,
reads them, whoever saved the base's.

SafeFlux itself needs the current versions; of the older ones, loading a release after `import safeflux` is all that is promised. The
embedded FLUX is written as transformers 4 writes, and both draw it within 1e-05 (`tests/mini/test_shipped.py`). Its T5 tokenizer is no
ordinary one: transformers 4 reads capitals as small letters, and transformers 5 as unknown, so its prompts are best written small."""


def table() -> list[str]:
    """The lines of it."""
    lines = ["| base saved by | layout | loaded by | what comes of it |", "|---|---|---|---|"]
    for row in ROWS:
        who, _, after = row.who.partition(", ")
        lines.append(f"| {SAVED[row.saved]} | {row.layout} | {WHO[who]}{', after `import safeflux`' if after else ''} | {row.says} |")
    return lines


def text() -> list[str]:
    """The table, and what is said around it."""
    return [*BEFORE.splitlines(), "", *table(), *AFTER.splitlines()]
