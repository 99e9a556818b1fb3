"""The model card: front matter that the hub reads, results and code for people."""

from __future__ import annotations

import ast
from typing import Any

from report_example import example, failing
from ruamel.yaml import YAML

from safeflux import render, report


def front_and_body(data: dict[str, Any], **meta: Any) -> tuple[dict[str, Any], str]:
    _, front, body = render.model_card(data, meta).split("---\n", 2)
    return YAML(typ="safe").load(front), body


def test_card_has_front_matter_for_the_hub() -> None:
    front, _ = front_and_body(report.to_json(example()))
    tags = ["flux", "concept-erasure", "safeflux"]
    assert front == {"license": "apache-2.0", "library_name": "diffusers", "pipeline_tag": "text-to-image", "tags": tags}
    hub = example(base=dict(example().base) | {"model": "black-forest-labs/FLUX.1-dev", "revision": "a" * 40})
    front, body = front_and_body(report.to_json(hub), license="FLUX.1 [dev] Non-Commercial", tags=["flux", "anime"])
    assert front["base_model"] == "black-forest-labs/FLUX.1-dev"
    assert (front["license"], front["license_name"], front["license_link"]) == ("other", "flux.1-dev-non-commercial", "LICENSE")
    assert front["tags"] == ["flux", "concept-erasure", "safeflux", "anime"]
    assert f"at revision {'a' * 40}" in body


def test_card_shows_results_and_code_that_parses() -> None:
    for made, verdict in ((example(), "passed"), (failing(), "failed")):
        data = report.to_json(made)
        _, body = front_and_body(data, intended_use="Trying *it*.", publisher="Example Lab", contact="a@b.example")
        assert f"**Audit: {verdict}.**" in body
        rows = [line for line in body.splitlines() if line.count(" | ") == 7]
        assert len(rows) == 1 + 13
        tree = ast.parse(body.split("```python\n")[1].split("```")[0])
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and len(node.keywords) > 2]
        given = {k.arg: k.value.value for k in calls[0].keywords if isinstance(k.value, ast.Constant)}
        assert given == {"num_inference_steps": 4, "max_sequence_length": 24, "width": 64, "height": 64}
        assert "Trying \\*it\\*." in body
        assert "public key of Example Lab" in body
