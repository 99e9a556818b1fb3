"""What a policy becomes, and that JSON Schema and checker never disagree about its shape."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from test_policy_errors import CASES, GOOD

from safeflux.errors import PolicyError
from safeflux.policy import Base, Choice, Limit, Signing, load_policy, read_policy, schema, templates
from safeflux.policy.model import Bake
from safeflux.policy.shape import Shape, plain
from safeflux.policy.tree import parse
from safeflux.prompts import NOUNS

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = sorted((ROOT / "policies").glob("*.yaml"))


def read(text: str, source: Path | None = None) -> Any:
    return read_policy(text.encode(), source)


def test_how_erased_neurons_stand_in_the_weights() -> None:
    assert read(GOOD).bake == Bake()
    text = GOOD + "bake: {decoys: true, multiple: 64, kept: never}\n"
    assert read(text.replace("[diffusers]", "[diffusers, removed]")).bake == Bake("dense", True, 64, "never")
    assert read(GOOD + "bake: {layout: removed}\n").bake.layout == "removed"


def test_everything_arrives() -> None:
    policy = read(GOOD, Path("/somewhere/p.yaml"))
    assert (policy.name, policy.version, policy.seed, policy.base) == ("demo", "1.0", 7, Base("builtin:flux-mini"))
    sword, neon = policy.concepts
    assert (sword.targets, sword.retain, sword.anchor, sword.label) == (("sword", "blade"), ("cross", "arrow"), "", "sword")
    assert (neon.targets, neon.detector, neon.label) == (("neon",), Choice("mini"), "neon")
    assert policy.audit.attacks[2] == Choice("ring-a-bell", {"generations": 20})
    assert policy.limits.detection == Limit(0.1, 0.95)
    assert policy.limits.attack_success == Limit(0.3, 0.95)
    assert policy.signing == Signing(None, True, None)
    assert policy.digest == hashlib.sha256(GOOD.encode()).hexdigest()
    assert policy.text == GOOD


def test_what_is_left_out_has_defaults() -> None:
    start, rest = GOOD.split("retain: [cat, house]\n")
    short = start + "\n".join(line for line in rest.splitlines() if line.startswith(("method", "limits")))
    policy = read(short.replace("seed: 7\n", "").replace("- name: neon", "- name: Cat"))
    assert policy.seed == 0
    assert policy.retain == tuple(noun for noun in NOUNS if noun != "cat"), "what is erased cannot be retained by default"
    assert [attack.name for attack in policy.audit.attacks] == ["none", "paraphrase", "ring-a-bell", "embedding-pgd"]
    assert (policy.audit.preset, policy.audit.images, policy.report.pairs) == ("standard", None, 4)
    assert policy.exports == (Choice("diffusers"),)
    assert policy.signing == Signing()


def test_numbers_have_the_type_that_is_asked_for() -> None:
    policy = read(GOOD.replace("method: mask", "method: {mask: {beta: 2, updates: 30.0}}").replace("detection: 0.1", "detection: 1"))
    assert (policy.method.options, policy.limits.detection.value) == ({"beta": 2.0, "updates": 30}, 1.0)
    assert isinstance(policy.method.options["beta"], float)
    assert isinstance(policy.method.options["updates"], int)


def test_the_key_is_found_from_the_policy_file(tmp_path: Path) -> None:
    for written, found in (("keys/a.pem", tmp_path / "keys/a.pem"), ("/k/a.pem", Path("/k/a.pem")), ("~/a.pem", Path.home() / "a.pem")):
        policy = read(GOOD.replace("{demo: true}", f"{{key: {written}}}"), tmp_path / "p.yaml")
        assert policy.signing.key == str(found)


def test_a_policy_cannot_be_changed() -> None:
    policy = read(GOOD)
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.limits.detection.value = 1.0


@pytest.mark.parametrize(
    ("text", "value"),
    [("no", "no"), ("12:30", "12:30"), ("2024-01-01", "2024-01-01"), ("0x1F", 31), ("010", 10), ("1e-3", 0.001), ("~", None)],
)
def test_plain_values_follow_yaml_1_2(text: str, value: object) -> None:
    root, problems = parse(f"a: {text}\n")
    assert not problems
    assert root is not None
    assert plain(root) == {"a": value}


def test_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    policy = read_policy(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode(), None)
    assert policy.name == "demo"


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_policies_are_good(file: Path) -> None:
    policy = load_policy(file)
    assert policy.source == file
    root, _ = parse(file.read_text("utf-8"))
    assert root is not None
    validator().validate(plain(root))
    if policy.base.model != "builtin:flux-mini":
        assert all(concept.detector.name != "mini" for concept in policy.concepts)


def test_what_is_shipped() -> None:
    assert {file.stem for file in SHIPPED} == {"demo", "nudity", "violence", "art-style", "characters"}
    assert next(iter(templates())) == "demo"
    assert all(20 < len(said) < 120 for said in templates().values())


# The schema


@cache
def validator() -> Any:
    return jsonschema.Draft202012Validator(schema())


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    json.dumps(schema())


def agree(text: str) -> tuple[bool, bool, bool]:
    """Whether the schema, the shape check, and the whole checker find nothing wrong."""
    root, problems = parse(text)
    assert root is not None
    assert not problems
    shape = Shape()
    shape.value(root, schema(), "")
    by_schema = validator().is_valid(plain(root))
    try:
        read(text)
    except PolicyError:
        return by_schema, not shape.problems, False
    return by_schema, not shape.problems, True


def yaml_cases() -> list[str]:
    texts = [GOOD.replace(case[0], case[1]) for case in CASES.values()]
    return [text for text in texts if not parse(text)[1] and parse(text)[0]]


def test_wrong_shapes_are_wrong_for_the_schema_too() -> None:
    texts = yaml_cases()
    assert len(texts) > 40
    for text in texts:
        by_schema, by_shape, _ = agree(text)
        assert by_shape or not by_schema, text


def test_random_damage_is_judged_alike() -> None:
    """The schema refuses whatever the shape check refuses, and nothing that the whole checker lets through."""
    rng = random.Random(5)
    good = plain(parse(GOOD)[0] or pytest.fail("no tree"))
    verdicts = set()
    for _ in range(150):
        data = json.loads(json.dumps(good))
        damage(data, rng)
        by_schema, by_shape, by_checker = agree(json.dumps(data))
        assert by_shape or not by_schema, data
        assert by_schema or not by_checker, data
        verdicts.add((by_schema, by_checker))
    assert {(True, True), (False, False)} <= verdicts


def damage(data: Any, rng: random.Random) -> None:
    """Replace, remove or add one value somewhere in the tree."""
    places = []
    stack = [data]
    while stack:
        node = stack.pop()
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                stack.append(node[key])
    node, key = rng.choice(places)
    match rng.randrange(3):
        case 0:
            node[key] = rng.choice(
                [None, True, 0, 1, -3, 0.25, 7.0, 1e9, "", "sword", " x", "mask", [], ["a"], ["a", "a"], {}, {"mask": {}}]
            )
        case 1:
            del node[key]
        case _:
            if isinstance(node, dict):
                node[rng.choice(["x", "name", "retain", "confidence", "revision", "key"])] = rng.choice(["y", 1, ["z"]])
            else:
                node.append(rng.choice(["y", 1, ["z"]]))


# Installed


def test_templates_are_in_the_wheel(tmp_path: Path) -> None:
    """Build the wheel, unpack it where nothing of the checkout is on the path, and start a policy from it."""
    pytest.importorskip("hatchling")
    build = "import hatchling.build, sys; hatchling.build.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    command = [sys.executable, "-P", "-m", "safeflux_cli.main", "policy"]
    where = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    listed = subprocess.run([*command, "new"], cwd=tmp_path, env=where, check=True, capture_output=True, text=True).stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(templates())
    subprocess.run([*command, "new", "--template", "nudity", "mine.yaml"], cwd=tmp_path, env=where, check=True, capture_output=True)
    assert (tmp_path / "mine.yaml").read_bytes() == (ROOT / "policies" / "nudity.yaml").read_bytes()
    checked = subprocess.run([*command, "check", "mine.yaml"], cwd=tmp_path, env=where, check=True, capture_output=True, text=True).stdout
    assert checked.startswith("mine.yaml: good.")
