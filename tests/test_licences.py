"""Whose licence a base model is under, and that nothing made from a non-commercial one goes by another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_example import example
from test_policy_errors import GOOD, HUB, REVISION

from safeflux import render, report
from safeflux.errors import PolicyError
from safeflux.plan import make_plan
from safeflux.policy import load_policy
from safeflux.policy.licences import DEV, Licence, detect, gate, notice, relabelled
from safeflux_cli.main import run

APACHE = "                                 Apache License\n                           Version 2.0, January 2004\n"
TEXT = "FLUX.1 [dev] Non-Commercial License v1.1.1\n\nBlack Forest Labs, Inc. is pleased ...\n"
DETECTED = GOOD.replace("  - name: neon\n", "  - name: neon\n    detector: mini\n") + "report: {license: Apache-2.0}\n"
LOCAL = DETECTED.replace("builtin:flux-mini", "./base")


def base(folder: Path, *, licence: str | None = None, guidance: bool = False) -> Path:
    (folder / "base" / "transformer").mkdir(parents=True)
    (folder / "base" / "transformer" / "config.json").write_text(json.dumps({"guidance_embeds": guidance}))
    (folder / "base" / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    if licence is not None:
        (folder / "base" / "LICENSE.md").write_text(licence)
    return folder / "base"


@pytest.mark.parametrize(
    ("model", "terms"),
    [
        ("builtin:flux-mini", "apache-2.0"),
        ("black-forest-labs/FLUX.1-schnell", "apache-2.0"),
        ("black-forest-labs/FLUX.1-dev", DEV),
        ("black-forest-labs/FLUX.1-Krea-dev", DEV),
        ("black-forest-labs/FLUX.1-Kontext-dev", DEV),
        ("./models/flux1-dev", DEV),
        ("somebody/else", "unknown"),
    ],
)
def test_by_name(model: str, terms: str) -> None:
    assert detect(model, None).terms == terms


@pytest.mark.parametrize(
    ("licence", "guidance", "terms", "file"),
    [
        (TEXT, False, DEV, "LICENSE.md"),
        (APACHE, True, "apache-2.0", "LICENSE.md"),
        (None, True, DEV, None),
        ("Do what you like.", False, "unknown", "LICENSE.md"),
    ],
)
def test_by_what_lies_in_its_directory(tmp_path: Path, licence: str | None, guidance: bool, terms: str, file: str | None) -> None:
    found = detect("./base", base(tmp_path, licence=licence, guidance=guidance))
    assert (found.terms, found.file) == (terms, file)


@pytest.mark.parametrize(
    ("terms", "said", "wrong"),
    [
        (DEV, "Apache-2.0", True),
        (DEV, "MIT", True),
        (DEV, None, False),
        (DEV, "other", False),
        (DEV, DEV, False),
        ("apache-2.0", "MIT", False),
        ("unknown", "MIT", False),
    ],
)
def test_only_what_is_not_commercial_keeps_its_name(terms: str, said: str | None, wrong: bool) -> None:
    assert bool(relabelled(Licence(terms, "a test"), said)) is wrong  # type: ignore[arg-type]


def test_a_policy_that_relabels_is_refused_when_it_is_checked_and_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base(tmp_path, licence=TEXT)
    (tmp_path / "p.yaml").write_text(LOCAL)
    policy = load_policy(tmp_path / "p.yaml")
    said = policy.report.license
    assert said is not None
    assert said.lower() == "apache-2.0"
    for refuses in (gate, make_plan):
        with pytest.raises(PolicyError, match=r"p\.yaml:\d+:\d+: report\.license: came \"Apache-2\.0\"; .*Non-Commercial"):
            refuses(policy)
    assert run(["policy", "check", str(tmp_path / "p.yaml")]) == 2
    assert "report.license" in capsys.readouterr().err


def test_check_says_early_that_it_is_not_commercial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = DETECTED.replace("base: {model: builtin:flux-mini", f"{HUB}, revision: {REVISION}").replace("Apache-2.0", "other")
    (tmp_path / "p.yaml").write_text(text)
    code = run(["policy", "check", str(tmp_path / "p.yaml")])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "Non-Commercial License" in said.out


def test_card_and_notice_say_it() -> None:
    data = report.to_json(example(base={**example().base, "license": DEV}))
    card = render.model_card(data, {"license": "other"})
    assert f'license_name: "{DEV}"' in card
    assert "**For non-commercial use only.**" in card
    assert "non-commercial use only" not in render.model_card(report.to_json(example()), {"license": "Apache-2.0"})
    text = notice(load_policy(Path(__file__).parent.parent / "policies" / "demo.yaml").concepts)
    for words in ("licensed by Black Forest Labs", "modified version", "sword, neon, captain comet", "non-commercial purposes only"):
        assert words in text
