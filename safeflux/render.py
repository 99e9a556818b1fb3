"""A report for people: one self-contained HTML page, and a model card. Both are made from the report's JSON alone.

The page needs no script and asks nothing of the network; its own content policy forbids both.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from safeflux import curves, report, scores, wording, wording_weights
from safeflux.policy.licences import DEV
from safeflux.wording import Json

Picture = tuple[str, bytes, bytes]

_PIXEL_ART = 256  # pictures narrower than this are enlarged with hard edges, so that a pixel stays a pixel
_MANY_SITES = 24  # more than this many sites are folded away below their groups
_PNG = b"\x89PNG\r\n\x1a\n"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LICENCES = ("apache-2.0", "mit", "openrail", "creativeml-openrail-m", "openrail++", "cc-by-4.0", "cc-by-nc-4.0", "cc0-1.0", "bsd-3-clause")


def html(report_json: Json, images: Sequence[Picture] = ()) -> str:
    """The report as one HTML file.

    ``images`` holds (title, base PNG, erased PNG) for each entry of ``report_json["pairs"]``, in that order; without
    them only pairs given as data URIs are shown. Raises ReportError for a report that cannot stand (see
    ``report.from_json``), ValueError for images that are no PNG or do not match the pairs.
    """
    report.from_json(report_json)
    pairs = _pairs(report_json, images)
    described = {concept["name"]: concept for concept in report_json["policy"].get("concepts", ())}
    tests = wording.limited(report_json)
    return _environment(autoescape=True).get_template("report.html.j2").render(
        r=report_json,
        rows=_rows(report_json),
        sections=[_section(report_json, name, described.get(name), pairs) for name in (*report_json["concepts"], None)],
        groups=_groups(report_json["edit"]["sites"]),
        fold_sites=len(report_json["edit"]["sites"]) > _MANY_SITES,
        attacks={choice["name"]: choice["options"] for choice in report_json["policy"].get("attacks", ())},
        remarks=scores.remarks,
        together=scores.together(report_json),
        scores=scores.by_concept(report_json),
        curves=curves.charts(report_json["training"].get("journal", ())),
        counts={status: sum(f["status"] == status for f in tests) for status in ("passed", "failed", "unchecked")},
        w=wording, weights=wording_weights,
    )  # fmt: skip


def model_card(report_json: Json, policy_meta: Json) -> str:
    """README.md of the release, in the form the Hugging Face hub reads.

    ``policy_meta`` may hold ``license``, ``intended_use``, ``contact``, ``publisher`` and ``tags``. ``base_model`` is given
    only where it is a hub id, as the hub accepts nothing else. Raises ReportError as ``html`` does.
    """
    report.from_json(report_json)
    base = report_json["base"].get("license")
    licence = base if base == DEV else policy_meta.get("license") or base
    known = str(licence).lower() in _LICENCES
    front = {
        "license": str(licence).lower() if known else "other",
        **({} if known else {"license_name": _slug(licence or "see LICENSE"), "license_link": "LICENSE"}),
        **({"base_model": report_json["base"]["model"]} if _HUB_ID.fullmatch(report_json["base"]["model"]) else {}),
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "tags": list(dict.fromkeys(["flux", "concept-erasure", "safeflux", *policy_meta.get("tags", ())])),
    }
    return _environment(autoescape=False).get_template("model_card.md.j2").render(
        r=report_json, front=front, meta=policy_meta, licence=licence, non_commercial=base == DEV, w=wording, weights=wording_weights,
        rows=_rows(report_json),
        described={concept["name"]: concept for concept in report_json["policy"].get("concepts", ())},
        example=next((pair["prompt"] for pair in report_json["pairs"] if pair["concept"] is None), "a picture of a cat"),
    )  # fmt: skip


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("safeflux"), autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"percent": wording.percent, "limit": wording.round_percent, "number": wording.number, "begin": wording.begin}
    environment.filters |= {"option": _option, "cell": _cell}
    return environment


def _rows(data: Json) -> list[dict[str, Any]]:
    """The limited lines, of each concept the ceilings before the floors."""
    rows = [_row(data, finding) for finding in wording.limited(data)]
    order = [*data["concepts"], None]
    return sorted(rows, key=lambda row: (order.index(row["f"]["concept"]), row["floor"]))


def _row(data: Json, finding: Json) -> dict[str, Any]:
    """A limited line with its control and where its marks stand on the chart, in percent of its width."""
    control, floor = wording.control(data, finding), wording.is_floor(finding)
    marks = {}
    for name, line in (("erased", finding), ("base", control)):
        if line is not None and line["value"] is not None:
            marks[name] = {key: _across(line[key]) for key in ("value", "low", "high") if line[key] is not None}
    return {
        "f": finding,
        "control": control,
        "floor": floor,
        "marks": marks,
        "limit": _across(finding["limit"]),
        "bound": None if finding["bound"] is None else _across(finding["bound"]),
    }


def _across(rate: float) -> float:
    """Where a rate of 0..1 stands on a chart of width 100, with room at both ends for a whole mark."""
    return round(2 + 96 * min(1.0, max(0.0, rate)), 3)


def _section(data: Json, concept: str | None, described: Json | None, pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All that is said of one concept (None: of what must stay)."""
    lines = [f for f in data["findings"] if f["concept"] == concept and f["model"] == "erased"]
    lines.sort(key=lambda f: (f["limit"] is None, f["limit"] is not None and wording.is_floor(f)))
    measured = {(f["attack"], f["metric"]) for f in lines}
    mine = (f for f in data["findings"] if f["concept"] == concept and f["model"] == "base")
    alone = [f for f in mine if (f["attack"], f["metric"]) not in measured]
    category = described["category"] if described else ""
    return {
        "concept": concept,
        "about": described,
        "category": category,
        "risk": wording.RISKS.get(category),
        "hidden": category in wording.DISTURBING,
        "lines": [(finding, wording.control(data, finding)) for finding in lines] + [(None, finding) for finding in alone],
        "pairs": [pair for pair in pairs if pair["concept"] == concept],
    }


def _pairs(data: Json, images: Sequence[Picture]) -> list[dict[str, Any]]:
    """The pairs that can be shown, with both pictures as data URIs."""
    pairs = data["pairs"]
    if not images:
        embedded = [pair for pair in pairs if all(pair[side].startswith("data:image/") for side in ("base", "erased"))]
        return [pair | {"title": pair["prompt"], "pixels": False} for pair in embedded]
    if len(images) != len(pairs):
        raise ValueError(f"{len(images)} images for {len(pairs)} pairs; give one (title, base, erased) for each pair, in their order")
    shown = []
    for pair, (title, base, erased) in zip(pairs, images, strict=True):
        small = _width(base) < _PIXEL_ART
        shown.append(pair | {"title": title, "base": _data_uri(base), "erased": _data_uri(erased), "pixels": small})
    return shown


def _width(png: bytes) -> int:
    if not png.startswith(_PNG) or len(png) < 24:
        raise ValueError(f"an image of {len(png)} bytes is not a PNG")
    return int.from_bytes(png[16:20], "big")


def _data_uri(png: bytes) -> str:
    _width(png)
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _groups(sites: Sequence[Json]) -> list[dict[str, Any]]:
    """Sites that differ only by their block's number, together: name with * for the number, units, removed, members."""
    groups: dict[str, dict[str, Any]] = {}
    for site in sites:
        name = re.sub(r"\b\d+\b", "*", site["site"])
        group = groups.setdefault(name, {"site": name, "units": 0, "removed": 0, "members": []})
        group["units"] += site["units"]
        group["removed"] += site["removed"]
        group["members"].append(site)
    return list(groups.values())


def _option(value: object) -> str:
    """An option's value as the policy would write it."""
    match value:
        case bool():
            return "yes" if value else "no"
        case None:
            return "none"
        case list() | tuple():
            return ", ".join(map(str, value))
        case _:
            return str(value)


def _cell(text: object) -> str:
    """Text that stays text inside Markdown: no markup, no new lines, no end of a table's cell."""
    flat = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", flat)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-") or "other"
