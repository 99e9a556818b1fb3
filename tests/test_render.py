"""The page stands alone, says what was measured and no more; the card is what the hub and diffusers can read."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from report_example import example, failing, findings, pictures, policy
from report_page import Page
from ruamel.yaml import YAML

from safeflux import render, report, wording
from safeflux.errors import ReportError


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render.html(report.to_json(example()), pictures()))


def test_asks_nothing_of_the_network_and_runs_nothing() -> None:
    text = render.html(report.to_json(example()), pictures())
    page = Page(text)
    assert not page.all("script") + page.all("link") + page.all("iframe") + page.all("a")
    for _, attrs in page.tags:
        assert all((attrs.get(name) or "data:").startswith("data:") for name in ("src", "href", "srcset", "action", "data"))
        assert not [name for name in attrs if name.startswith("on")]
    assert "url(" not in text
    assert "@import" not in text
    assert "://" not in text
    policy_of_page = next(attrs["content"] for attrs in page.all("meta") if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy_of_page == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_never_says_safe(page: Page) -> None:
    card = render.model_card(report.to_json(example()), {})
    for text in (page.text, card, Page(render.html(report.to_json(failing()))).text):
        assert not re.search(r"\bsafe(ly|ty|r)?\b", text, re.IGNORECASE)


def test_verdict_and_its_numbers_come_first(page: Page) -> None:
    assert page.text.index("Passed All 13 tests against the limits of the policy passed.") < 200
    assert "showed it in 13 of 1,080 pictures (1.2%); the base model in 1,041 of 1,080 pictures (96.4%)" in page.text
    assert "The weakest line, sketch, Ring-A-Bell search, is bounded by 14.6% against a limit of 20%" in page.text


def test_failing_report_says_what_failed_and_why() -> None:
    page = Page(render.html(report.to_json(failing())))
    assert "Failed 1 of 13 tests failed: sword, direct prompts." in page.text
    assert "2 of 13 tests could not be decided: sword, reworded prompts; sword, Ring-A-Bell search." in page.text
    assert "Unchecked: the control does not fire: 60 of 150 pictures of the base model" in page.text
    assert "Unchecked: no pictures: the attack found no effective prompt" in page.text
    assert "showed it in 37 of 870 pictures (4.3%); the base model in 842 of 870" in page.text  # of the decided lines alone


def test_nothing_shown_is_said() -> None:
    unlimited = example(findings=tuple(f for f in findings() if f.limit is None))
    assert "so nothing has been shown" in Page(render.html(report.to_json(unlimited))).text
    without = example(findings=tuple(f for f in findings() if f.concept != "sketch"))
    assert "Nothing was tested for sketch." in Page(render.html(report.to_json(without))).text


def test_every_limited_line_has_a_chart_at_its_numbers(page: Page) -> None:
    lines = wording.limited(report.to_json(example()))
    charts = [attrs for attrs in page.all("svg", "chart") if attrs.get("role") == "img"]
    assert len(charts) == len(lines) == 13
    dots = [float(str(attrs["cx"]).rstrip("%")) for attrs in page.all("circle", "passed dot") if str(attrs["cx"]).endswith("%")]
    assert sorted(dots) == pytest.approx(sorted(2 + 96 * f["value"] for f in lines), abs=1e-3)
    hollow = [attrs for attrs in page.all("circle", "base dot") if str(attrs["cx"]).endswith("%")]
    assert len(hollow) == 13
    assert charts[0]["aria-label"] == "erased model 0 of 150 (0.0%), bound ≤ 2.0%, limit ≤ 10%, base model 148 of 150 (98.7%)"


def test_tells_what_was_not_tested_and_whom_it_does_not_protect_from(page: Page) -> None:
    for sentence in (*example().not_tested, wording.BASE_STANDS, wording.SCOPE):
        assert sentence in page.text
    for row in wording.PROMISES:
        assert all(words in page.text for words in row)


def test_tells_edit_bake_record_and_how_to_check(page: Page) -> None:
    data = report.to_json(example())
    assert all(site["site"] in page.text for site in data["edit"]["sites"])
    assert "682 of 16,384 units (4.2%) are gone, from 13 of 16 places" in page.text
    assert "by 3.1e-07 relative at most (allowed: 1e-05), over 8 sampling runs, in float32. Layout: dense." in page.text
    assert "safeflux verify DIR --key PUB.pem" in page.text
    for value in (*data["environment"].values(), data["base"]["digest"], data["policy"]["digest"], data["edit"]["digest"], "generations"):
        assert str(value) in page.text
    bare = Page(render.html(report.to_json(example(bake={}, policy={}, detectors=(), edit={"kind": "low_rank", "sites": []}))))
    assert "No comparison between the edited and the baked model was recorded." in bare.text
    assert "An edit of kind low rank; it removes no units." in bare.text


def test_lines_of_the_base_model_alone_and_remarks_are_told() -> None:
    assert "prompts that work on the base model 60 of 80 (75.0%) n/a" in Page(render.html(report.to_json(example()))).text
    remark = tuple(replace(f, reason="of 80 pairs, the 60 that work") if f.attack == "ring-a-bell" else f for f in findings())
    assert "concept shown of 80 pairs, the 60 that work" in Page(render.html(report.to_json(example(findings=remark)))).text


def test_pairs_stand_side_by_side_with_prompt_and_seed(page: Page) -> None:
    images = [attrs["src"] for attrs in page.all("img")]
    wanted = [f"data:image/png;base64,{base64.b64encode(png).decode()}" for _, base, erased in pictures() for png in (base, erased)]
    assert images == wanted
    assert all(attrs["class"] == "pixels" for attrs in page.all("img"))
    assert "“pls draw a blade at night” Reworded prompts, noise seed 700001 for both" in page.text


def test_disturbing_pictures_are_shown_on_request_only() -> None:
    concepts = [concept | {"category": "violence"} if concept["name"] == "sword" else concept for concept in policy()["concepts"]]
    page = Page(render.html(report.to_json(example(policy=policy() | {"concepts": concepts})), pictures()))
    assert "Show 2 picture pairs (violence; the base model's pictures may disturb)" in page.text
    assert len([attrs for attrs in page.all("details") if "open" not in attrs]) == 1
    assert "Dangerous, Violent, or Hateful Content" in page.text


def test_pairs_may_come_as_data_uris_and_files_are_left_out() -> None:
    uris = {"base": "data:image/png;base64,AA", "erased": "data:image/png;base64,BB"}
    embedded = example(pairs=tuple(dict(pair) | uris for pair in example().pairs))
    assert len(Page(render.html(report.to_json(embedded))).all("img")) == 12
    assert not Page(render.html(report.to_json(example()))).all("img")


def test_refuses_images_that_do_not_fit() -> None:
    data = report.to_json(example())
    with pytest.raises(ValueError, match="5 images for 6 pairs"):
        render.html(data, pictures()[1:])
    with pytest.raises(ValueError, match="not a PNG"):
        render.html(data, [("title", b"GIF89a", b"GIF89a")] * 6)


def test_refuses_a_report_that_contradicts_itself() -> None:
    data = report.to_json(failing()) | {"verdict": "passed"}
    for make in (render.html, lambda data: render.model_card(data, {})):
        with pytest.raises(ReportError, match="the file says passed"):
            make(data)


def test_text_from_outside_stays_text() -> None:
    evil = '<script>alert("x")</script> | `a` [b](http://c) "quoted"'
    lines = tuple(replace(f, concept=evil) if f.concept == "sword" else f for f in findings())
    data = report.to_json(example(name=evil, concepts=(evil, "sketch", "captain comet"), findings=lines, not_tested=(evil,), policy={}))
    page = Page(render.html(data, [(evil, base, erased) for _, base, erased in pictures()]))
    assert not page.all("script")
    assert page.text.count(" ".join(evil.split())) >= 8
    card = render.model_card(data, {"contact": evil, "license": evil, "tags": [evil]})
    assert "<script>" not in card.split("---", 2)[2].split("```")[0]
    rows = [line for line in card.splitlines() if line.startswith("| &lt;script") and "direct prompts" in line]
    assert [line.count(" | ") for line in rows] == [7, 7]
    assert YAML(typ="safe").load(card.split("---")[1])["tags"][-1] == evil


def test_many_sites_are_folded_below_their_groups() -> None:
    sites = [{"site": f"transformer_blocks.{i}.ff", "units": 12288, "removed": i} for i in range(38)]
    page = Page(render.html(report.to_json(example(edit={"kind": "masks", "sites": sites}))))
    assert "transformer_blocks.*.ff" in page.text
    assert "open" not in page.all("details", "fold")[0]


@pytest.mark.parametrize(
    ("rate", "against", "text"),
    [(0.1, None, "10.0%"), (0.1004, 0.1, "10.04%"), (0.09996, 0.1, "9.996%"), (0.1, 0.1, "10.0%"), (0.0, None, "0.0%")],
)
def test_percent_shows_on_which_side_of_the_limit_it_lies(rate: float, against: float | None, text: str) -> None:
    assert wording.percent(rate, against) == text


def test_needs_neither_torch_nor_numpy() -> None:
    code = "import sys, safeflux.render; print([m for m in ('torch', 'diffusers', 'transformers', 'numpy', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"


def test_formats_are_told_with_what_loaded_them_and_how_near_they_are() -> None:
    data = report.to_json(example())
    page = Page(render.html(data)).text
    assert "FluxPipeline.from_pretrained, diffusers 0.42.1 the same, bit for bit 3e-07 1e-05 sword 0 of 6, sketch 0 of 6" in page
    assert "off by 3.1% 8.1% 25.0% sword 1 of 6" in page
    card = render.model_card(data, {"license": "Apache-2.0"})
    assert (
        "| fp8 | FluxTransformer2DModel.from\\_single\\_file, diffusers 0.42.1 | off by 3.1% | 8.1% | sword 1 of 6, sketch 0 of 6," in card
    )
    assert "Formats" not in Page(render.html(report.to_json(example(exports=())))).text
