"""How a report speaks: names, numbers and the sentences at its top. Shared by the HTML report and the model card.

No sentence here claims more than what was measured; "safe" is not among the words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]

ATTACKS = {
    "none": "direct prompts",
    "paraphrase": "reworded prompts",
    "prompts": "prompts of a list",
    "ring-a-bell": "Ring-A-Bell search",
    "mma": "words of the same meaning (MMA)",
    "embedding-pgd": "optimised embeddings",
    "noise": "best of many noises",
    "completion": "pictures the base model began",
    "revive": "zeroed weights guessed",
    "concept-inversion": "learned words (concept inversion)",
    "unlearndiffatk": "adversarial prefixes (UnlearnDiffAtk)",
    "p4d": "adversarial prompts (P4D)",
    "latent-inversion": "inverted latents",
    "edit": "edited pictures",
    "relearn": "fine-tuning",
    "surgery": "weight surgery",
}
METRICS = {
    "detection": "concept shown",
    "retained": "still drawn",
    "neighbours": "neighbours still drawn",
    "effective": "prompts that work on the base model",
    "embedding-score": "embedding score",
    "in-prompt-score": "fit to the rest of the prompt",
    "erase-eval": "likeness to the base model, 0 where shown",
    "erase-eval-captions": "likeness of captions, 0 where shown",
    "erase-eval-fit": "fit to prompts, share kept",
    "erase-eval-distance": "nearness to photographs, share kept",
    "feature-distance": "feature distance",
    "fid": "Fréchet distance of features",
    "kid": "kernel distance of features",
    "ssim": "SSIM to the base model",
    "psnr": "PSNR to the base model, dB",
    "perceptual-distance": "perceptual distance to the base model",
    "latent-drift": "drift of latents from the base model's",
}
KEPT = "what must stay"
RISKS = {  # the names of the generative AI risks in NIST AI 600-1 that a concept's category falls under
    "nudity": "Obscene, Degrading, and/or Abusive Content", "violence": "Dangerous, Violent, or Hateful Content",
    "identity": "Data Privacy", "character": "Intellectual Property", "style": "Intellectual Property",
}  # fmt: skip
DISTURBING = ("nudity", "violence")  # categories whose pictures are shown on request only
SCOPE = (
    "This holds for these weights and for the prompts, attacks, budgets, detectors and noise seeds listed in this report. "
    "It says nothing about others."
)
BASE_STANDS = (
    "Whoever has the base model's weights can still draw everything the base model can. Where the base is public, erasure protects "
    "the users of this release, not the world."
)
PROMISES = (
    ("A user of this release", "prompts, seeds, the sampler", "measured rates with bounds, for the attacks and budgets listed above"),
    ("Someone with these weights", "gradients, embeddings, fine-tuning, surgery", "nothing, unless an attack of that kind is listed above"),
    ("Someone with the base model's weights", "everything the base model can do", "nothing"),
    (
        "Someone between publisher and user", "the download",
        "any changed, added or removed byte is refused by verification; this report belongs to exactly these weights",
    ),
    (
        "A publisher who wants to look good", "the policy, the prompts, the seeds",
        "limits fixed before the audit, a control for every line, seeds and detectors named, so that others can run it again",
    ),
)  # fmt: skip


def percent(rate: float, against: float | None = None) -> str:
    """``rate`` in percent; with as many digits as it takes to show on which side of ``against`` it lies."""
    digits = 1
    while against is not None and digits < 6 and rate != against and f"{100 * rate:.{digits}f}" == f"{100 * against:.{digits}f}":
        digits += 1
    return f"{100 * rate:.{digits}f}%"


def round_percent(rate: float) -> str:
    """A limit as a person wrote it: 10%, not 10.0%."""
    return f"{percent(rate)[:-1].removesuffix('.0')}%"


def number(value: float | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if value and abs(value) < 1e-3 else f"{value:,.3f}"


def attack(name: str) -> str:
    """An attack's name in words; a point of its curve stays as it is."""
    own, comma, point = name.partition(", ")
    return f"{ATTACKS.get(own, own)}{comma}{point}"


def begin(words: str) -> str:
    """``words`` as the beginning of a line."""
    return words[:1].upper() + words[1:]


def metric(name: str) -> str:
    return METRICS.get(name, name.replace("-", " "))


def measured(finding: Json) -> str:
    """ "3 of 150, 2%" or "0.312"."""
    if finding["value"] is None:
        return "no pictures"
    if finding["k"] is None:
        return number(finding["value"])
    return f"{finding['k']:,} of {finding['n']:,} ({percent(finding['value'])})"


def interval(finding: Json) -> str:
    if finding["low"] is None or finding["high"] is None:
        return ""
    if finding["k"] is None:
        return f"{number(finding['low'])} to {number(finding['high'])}"
    return f"{percent(finding['low'])[:-1]} to {percent(finding['high'])}"


def limited(report: Json) -> list[Json]:
    """The lines of the erased model that a limit applies to."""
    return [f for f in report["findings"] if f["model"] == "erased" and f["limit"] is not None]


def control(report: Json, finding: Json) -> Json | None:
    """The base model's line that belongs to ``finding``."""
    same = ("concept", "attack", "metric")
    found = (f for f in report["findings"] if f["model"] == "base" and all(f[key] == finding[key] for key in same))
    return next(found, None)


def is_floor(finding: Json) -> bool:
    """Whether ``finding`` must stay above its limit; an undecided line shows it by its metric alone."""
    if finding["bound"] is None:
        return finding["concept"] is None or finding["metric"] == "neighbours"
    return bool(finding["bound"] < finding["value"] or finding["bound"] == 0)


def bound(finding: Json) -> str:
    """The bound with its direction: "≤ 2.0%"."""
    if finding["bound"] is None:
        return "none"
    return f"{'≥' if is_floor(finding) else '≤'} {percent(finding['bound'], finding['limit'])}"


def limit(finding: Json) -> str:
    return f"{'≥' if is_floor(finding) else '≤'} {round_percent(finding['limit'])}"


def subject(finding: Json) -> str:
    extra = "" if finding["metric"] in ("detection", "retained") else f", {metric(finding['metric'])}"
    return f"{finding['concept'] or KEPT}, {attack(finding['attack'])}{extra}"


def in_words(finding: Json, control: Json | None) -> str:
    """A chart for those who cannot see it."""
    base = "not measured" if control is None else measured(control)
    return f"erased model {measured(finding)}, bound {bound(finding)}, limit {limit(finding)}, base model {base}"


def headline(report: Json) -> str:
    """Whether the policy's limits were met, and if not, which."""
    lines = limited(report)
    if not lines:
        return "Nothing was measured against a limit, so nothing has been shown."
    of = f"{len(lines)} test{'s' * (len(lines) > 1)}"
    failed = [f for f in lines if f["status"] == "failed"]
    undecided = [f for f in lines if f["status"] == "unchecked"]
    missing = [name for name in report["concepts"] if all(f["concept"] != name or is_floor(f) for f in lines)]
    said = [f"{len(failed)} of {of} failed: {_list(failed)}."] if failed else []
    said += [f"{len(undecided)} of {of} could not be decided: {_list(undecided)}."] if undecided else []
    said += [f"Nothing was tested for {_and(missing)}."] if missing else []
    return " ".join(said) or f"All {of} against the limits of the policy passed."


def summary(report: Json) -> str:
    """What was asked for, what came, and what the base model did on the same prompts and seeds."""
    lines = limited(report)
    decided = [f for f in lines if f["status"] in ("passed", "failed")]
    sought = [f for f in decided if not is_floor(f)]
    said = []
    if sought:
        ways = len({f["attack"] for f in sought})
        said.append(
            f"Asked in {ways} way{'s' * (ways > 1)} for {_and(sorted({f['concept'] for f in sought}, key=report['concepts'].index))}, "
            f"the erased model showed it in {_total(sought)}; the base model in {_total(_controls(report, sought))}."
        )
        worst = max(sought, key=lambda f: float(f["bound"]) / max(float(f["limit"]), 1e-9))
        against = f"{percent(worst['bound'], worst['limit'])} against a limit of {round_percent(worst['limit'])}"
        said.append(f"The weakest line, {subject(worst)}, is bounded by {against}.")
    if kept := [f for f in decided if f["concept"] is None]:
        said.append(f"What must stay was drawn in {_total(kept)}; by the base model in {_total(_controls(report, kept))}.")
    return " ".join(said)


def _controls(report: Json, findings: Iterable[Json]) -> list[Json]:
    return [line for f in findings if (line := control(report, f)) is not None]


def _total(findings: Sequence[Json]) -> str:
    k, n = sum(f["k"] or 0 for f in findings), sum(f["n"] for f in findings)
    return f"{k:,} of {n:,} pictures" + (f" ({percent(k / n)})" if n else "")


def _list(findings: Sequence[Json]) -> str:
    return "; ".join(map(subject, findings[:3])) + (f"; and {len(findings) - 3} more" if len(findings) > 3 else "")


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def weights(export: Json) -> str:
    """How an export's weights compare with the masked model's."""
    error = export["weights_error"]
    return "other tensors" if error is None else f"off by {apart(error)}" if error else "the same, bit for bit"


def apart(share: float) -> str:
    """A difference, as a share of the largest number it is a difference of."""
    return "0" if share == 0 else f"{share:.0e}" if share < 0.001 else f"{share:.1%}"
