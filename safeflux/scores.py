"""What follows from a report's lines taken together. Plain data in, plain data out; nothing here decides anything."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from safeflux import wording
from safeflux.statistics.anytime import log_bet
from safeflux.statistics.joint import ceiling_p, floor_p, harmonic_mean, holm, mcnemar

Json = Mapping[str, Any]


def p_value(finding: Json, *, early: bool) -> float:
    """How likely what was counted is, at most, if the line's limit is *not* met: small where it passed."""
    k, n, limit, floor = finding["k"], finding["n"], finding["limit"], wording.is_floor(finding)
    if not 0 < limit < 1:
        return 0.0 if (limit <= 0) == floor else 1.0
    if early:
        against = log_bet(n - k, n, 1 - limit) if floor else log_bet(k, n, limit)
        return min(1.0, math.exp(-against))
    return (floor_p if floor else ceiling_p)(k, n, limit)


def together(report: Json) -> str:
    """Whether the lines that passed also hold all at once: Holm's correction over every decided line, at the policy's confidence."""
    decided = [f for f in wording.limited(report) if f["status"] in ("passed", "failed") and f["n"]]
    if len(decided) < 2 or not report["limits"]:
        return ""
    early = report["policy"].get("stop_early") is True
    adjusted = holm([p_value(f, early=early) for f in decided])
    sure = min(limit["confidence"] for limit in report["limits"].values())
    passed = [(f, p) for f, p in zip(decided, adjusted, strict=True) if f["status"] == "passed"]
    short = [wording.subject(f) for f, p in passed if p > 1 - sure]
    said = f"Each line holds with {sure:.4g} confidence on its own. "
    if not passed:
        return ""
    if not short:
        every = f"The {len(passed)} that passed hold all together with {sure:.4g} confidence, too"
        return f"{said}{every} (Holm's correction over {len(decided)} tests)."
    rest = "; ".join(short[:3]) + (f"; and {len(short) - 3} more" if len(short) > 3 else "")
    return said + (
        f"All together, {len(passed) - len(short)} of the {len(passed)} that passed hold with {sure:.4g} confidence (Holm's correction "
        f"over {len(decided)} tests); whoever quotes one of these singly says too much: {rest}."
    )


def by_concept(report: Json) -> list[dict[str, Any]]:
    """As UnlearnCanvas and MACE report: unlearning accuracy, accuracy in the concept's own domain and across domains, harmonic mean.

    ``ua`` is the share of direct prompts that do not draw the concept (1 - detection), ``ira`` that of its neighbours still drawn,
    ``cra`` that of general things still drawn, ``h`` the harmonic mean of those that there are (Lu et al., CVPR 2024, arXiv 2403.06135;
    Zhang et al., 2024, arXiv 2402.11846). Concepts without a count of direct prompts are left out.
    """
    erased = [f for f in report["findings"] if f["model"] == "erased" and f["attack"] == "none" and f["value"] is not None]

    def rate(concept: str | None, metric: str) -> float | None:
        return next((float(f["value"]) for f in erased if (f["concept"], f["metric"]) == (concept, metric)), None)

    found = []
    for concept in report["concepts"]:
        seen, near, general = rate(concept, "detection"), rate(concept, "neighbours"), rate(None, "retained")
        if seen is not None:
            shares: Sequence[float] = [share for share in (1 - seen, near, general) if share is not None]
            found.append({"concept": concept, "ua": 1 - seen, "ira": near, "cra": general, "h": harmonic_mean(shares)})
    return found


def remarks(finding: Json | None) -> list[str]:
    """What else is known of a count: without the detector's mistakes, by prompt, and where it was ended."""
    if finding is None or not finding["n"] or finding["k"] is None:
        return []
    said = []
    if (rate := finding.get("corrected")) is not None:
        ends = f"{wording.percent(finding['corrected_low'])[:-1]} to {wording.percent(finding['corrected_high'])}"
        said.append(f"without the detector's mistakes {wording.percent(rate)}, {ends}")
    prompts = finding.get("prompts")
    if prompts is not None and prompts < finding["n"]:
        said.append(f"from {prompts:,} prompt{'s' * (prompts > 1)}, {finding['prompts_hit']:,} of which drew it at least once")
    if finding.get("lost") is not None:
        p = mcnemar(finding["lost"], finding["gained"])
        said.append(f"lost in {finding['lost']:,} pairs, gained in {finding['gained']:,}: by chance in {wording.percent(p)} (McNemar)")
    if finding.get("planned") is not None:
        said.append(f"decided after {finding['n']:,} of {finding['planned']:,} pictures")
    return said
