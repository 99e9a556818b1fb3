"""The shipped JSON Schema says the same to us and to an independent validator."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest
from report_example import example

from safeflux import report, shape
from safeflux.errors import ReportError
from safeflux.types import Finding, Report


def test_example_meets_its_schema_by_an_independent_validator() -> None:
    jsonschema.Draft202012Validator.check_schema(dict(report.schema()))
    for made in (example(), example(findings=()), example(bake={}, pairs=(), policy={}, detectors=())):
        jsonschema.Draft202012Validator(report.schema()).validate(report.to_json(made))


def objects(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        yield path, node
        for name, inner in node.items():
            yield from objects(inner, f"{path}/{name}")


def test_schema_describes_every_field_and_is_closed() -> None:
    for path, node in objects(report.schema()):
        if node.get("type") == "object":
            assert "additionalProperties" in node, path
        for name, field in node.get("properties", {}).items() if "type" in node else ():
            where = field if "description" in field else report.schema()["$defs"][field["$ref"].rsplit("/", 1)[1]]
            assert len(where["description"]) > 3, f"{path}/{name}"


def test_schema_has_the_fields_of_the_types() -> None:
    assert set(report.schema()["properties"]) == {*Report.__dataclass_fields__, "schema", "verdict"}
    assert set(report.schema()["$defs"]["finding"]["properties"]) == set(Finding.__dataclass_fields__)


WRONG: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("unknown field", lambda d: d.update(score=1)),
    ("missing field", lambda d: d.pop("not_tested")),
    ("another format", lambda d: d.update(schema="erasure_report/v2")),
    ("verdict of no kind", lambda d: d.update(verdict="ok")),
    ("no concepts", lambda d: d.update(concepts=[])),
    ("concept twice", lambda d: d.update(concepts=["sword", "sword"])),
    ("nothing untested", lambda d: d.update(not_tested=[])),
    ("short digest", lambda d: d["base"].update(digest="abc")),
    ("steps as text", lambda d: d["base"].update(steps="4")),
    ("no steps", lambda d: d["base"].update(steps=0)),
    ("limit over one", lambda d: d["limits"]["detection"].update(value=1.5)),
    ("confidence of one", lambda d: d["limits"]["detection"].update(confidence=1)),
    ("bool for a count", lambda d: d["findings"][0].update(k=True)),
    ("fraction for a count", lambda d: d["findings"][0].update(n=1.5)),
    ("negative count", lambda d: d["findings"][0].update(k=-1)),
    ("status of no kind", lambda d: d["findings"][0].update(status="green")),
    ("extra in a finding", lambda d: d["findings"][0].update(note="")),
    ("method without options", lambda d: d["method"].pop("options")),
    ("environment with a list", lambda d: d["environment"].update(gpus=[1])),
    ("findings not a list", lambda d: d.update(findings={})),
]


@pytest.mark.parametrize(("what", "spoil"), WRONG, ids=[what for what, _ in WRONG])
def test_wrong_shapes_are_refused_here_and_by_jsonschema(what: str, spoil: Callable[[dict[str, Any]], Any]) -> None:
    data = copy.deepcopy(report.to_json(example()))
    spoil(data)
    assert not jsonschema.Draft202012Validator(report.schema()).is_valid(data)
    assert shape.problems(data, report.schema())
    with pytest.raises(ReportError):
        report.from_json(data)


def test_shape_refuses_keywords_it_would_have_to_skip() -> None:
    with pytest.raises(NotImplementedError, match="oneOf"):
        shape.problems(1, {"oneOf": []})
    assert shape.problems({"a": 3}, {"type": "object", "properties": {"a": {"type": "string"}}}) == ["a: got 3, wanted string"]
