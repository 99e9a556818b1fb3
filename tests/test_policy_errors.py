"""Wrong policies, and the message that a person would want for each: line, column, field, what came, what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from safeflux.errors import PolicyError
from safeflux.policy import load_policy

GOOD = """\
safeflux: 1
name: demo
version: "1.0"
seed: 7
base: {model: builtin:flux-mini}
concepts:
  - name: sword
    category: object
    targets: [sword, blade]
    retain: [cross, arrow]
    detector: mini
  - name: neon
    category: style
retain: [cat, house]
method: mask
limits: {detection: 0.1, attack_success: {at_most: 0.3, confidence: 0.95}, retained: 0.9}
audit:
  preset: quick
  attacks: [none, paraphrase, {ring-a-bell: {generations: 20}}]
exports: [diffusers]
signing: {demo: true}
"""
HUB = "base: {model: black-forest-labs/FLUX.1-dev"
REVISION = "3de623fc3c33e44ffbe2bad470d0f45bccf2eb21"

# what is replaced in GOOD, by what, and the start and some words of the only problem
CASES = {
    "unknown key": ("seed: 7", "sede: 7", "4:1: sede: ", 'came the unknown key "sede"', 'did you mean "seed"?'),
    "one release merged": ("base: {model: builtin:flux-mini}", "base: {model: builtin:flux-mini, merges: [./a]}",
        "5:42: base.merges: ", "came a list of 1; allowed: at least 2"),
    "merged twice": ("base: {model: builtin:flux-mini}", "base: {model: builtin:flux-mini, merges: [./a, ./a]}",
        "5:48: base.merges[1]: ", 'came "./a" again; it is a release already at base.merges[0]'),
    "merged and extended": ("base: {model: builtin:flux-mini}", "base: {model: builtin:flux-mini, extends: ./c, merges: [./a, ./b]}",
        "5:56: base.merges: ", "came beside base.extends"),
    "unknown key deep": ("    category: object", "    categorie: object\n    category: object",
        "8:5: concepts[0].categorie: ", 'did you mean "category"?'),
    "max for at_most": ("{at_most: 0.3,", "{at_most: 0.3, max: 0.3,", "16:57: limits.attack_success.max: ", 'did you mean "at_most"?'),
    "other format": ("safeflux: 1", "safeflux: 2", "1:11: safeflux: ", "came the number 2", "this SafeFlux reads"),
    "format as text": ("safeflux: 1", 'safeflux: "1"', "1:11: safeflux: ", 'came the text "1"', "did you mean 1, without quotes"),
    "version as number": ('"1.0"', "1.10", "3:10: version: ", "came the number 1.10", 'did you mean "1.10", in quotes?'),
    "bad version": ('"1.0"', "v1.0", "3:10: version: ", 'came the text "v1.0"', 'did you mean "1.0"?'),
    "bad name": ("name: demo", "name: My Demo", "2:7: name: ", "lower-case letters", 'did you mean "my-demo"?'),
    "path as name": ("name: demo", "name: ../demo", "2:7: name: ", 'came the text "../demo"', 'did you mean "demo"?'),
    "bool as seed": ("seed: 7", "seed: true", "4:7: seed: ", "came true", "a whole number from 0 to 4294967295"),
    "text as seed": ("seed: 7", "seed: seven", "4:7: seed: ", 'came the text "seven"', "a whole number"),
    "fraction as seed": ("seed: 7", "seed: 7.5", "4:7: seed: ", "came the number 7.5", "a whole number"),
    "negative seed": ("seed: 7", "seed: -1", "4:7: seed: ", "came the number -1", "from 0"),
    "endless number": ("seed: 7", "seed: 1e999", "4:7: seed: ", 'came the text "1e999"', "a whole number"),
    "yes is text": ("demo: true", "demo: yes", "21:17: signing.demo: ", 'came the text "yes"', "did you mean true"),
    "percent sign": ("detection: 0.1,", "detection: 10%,", "16:21: limits.detection: ", 'came the text "10%"', "did you mean 0.1"),
    "percent": ("detection: 0.1,", "detection: 10,", "16:21: limits.detection: ", "came the number 10", "did you mean 0.1?"),
    "negative limit": ("detection: 0.1,", "detection: -0.1,", "16:21: limits.detection: ", "came the number -0.1", "above 0, up to 1"),
    "limit of zero": ("detection: 0.1,", "detection: 0,", "16:21: limits.detection: ", "came the number 0", "above 0"),
    "retained above 1": ("retained: 0.9", "retained: 1.2", "16:86: limits.retained: ", "came the number 1.2", "up to 1"),
    "wrong side": ("retained: 0.9", "retained: {at_most: 0.9, at_least: 0.9}",
        "16:87: limits.retained.at_most: ", 'did you mean "at_least"?'),
    "sure of all": ("confidence: 0.95", "confidence: 1.0", "16:69: limits.attack_success.confidence: ", "came the number 1.0", "below 1"),
    "sure of nothing": ("confidence: 0.95", "confidence: 0.5", "16:69: limits.attack_success.confidence: ", "above 0.5"),
    "no limits": ("limits: {", "# {", "1:1: limits: ", "is missing", "detection, attack_success, retained"),
    "empty value": ("method: mask", "method:", "15:1: method: ", "came nothing", "one of mask"),
    "unknown method": ("method: mask", "method: masc", "15:9: method: ", 'came the text "masc"', 'did you mean "mask"?'),
    "method with options in the long form": ("method: mask", "method: {name: mask, options: {}}",
        "15:9: method: ", 'did you mean "mask: {...}"?'),
    "unknown attack": ("paraphrase,", "parafrase,", "19:19: audit.attacks[1]: ", 'did you mean "paraphrase"?'),
    "attack twice": ("paraphrase,", "none,", "19:19: audit.attacks[1]: ", 'came "none" again', "audit.attacks[0], line 19"),
    "no direct prompts": ("[none, ", "[", "19:12: audit.attacks: ", 'lacks "none"'),
    "unknown option": ("generations:", "generation:", "19:46: audit.attacks[2].ring-a-bell.generation: ", 'did you mean "generations"?'),
    "mistyped option": ("generations: 20", "generations: many",
        "19:59: audit.attacks[2].ring-a-bell.generations: ", 'came the text "many"', "a whole number"),
    "option outside its choices": ("generations: 20", "against: clop",
        "19:55: audit.attacks[2].ring-a-bell.against: ", "clip, t5, both", 'did you mean "clip"?'),
    "unknown layout": ("[diffusers]", "[diffusers]\nbake: {layout: slim}", "21:16: bake.layout: ", "allowed: one of dense, removed"),
    "decoys in nothing": (
        "[diffusers]", "[diffusers]\nbake: {layout: removed, decoys: true}", "21:33: bake.decoys: ", "slots that are cut out",
    ),
    "widths of zeros": ("[diffusers]", "[diffusers]\nbake: {multiple: 64}", "21:18: bake.multiple: ", "came without layout: removed"),
    "the same layout twice": (
        "[diffusers]", "[diffusers, removed]\nbake: {layout: removed}", "20:22: exports[1]: ", "the release itself has that layout",
    ),
    "unknown exporter": ("[diffusers]", "[diffuser]", "20:11: exports[0]: ", 'did you mean "diffusers"?'),
    "unknown detector": ("detector: mini", "detector: nudnet", "11:15: concepts[0].detector: ", 'did you mean "nudenet"?'),
    "unknown preset": ("preset: quick", "preset: qick", "18:11: audit.preset: ", "quick, standard, full", 'did you mean "quick"?'),
    "unknown category": ("category: style", "category: styles", "13:15: concepts[1].category: ", 'did you mean "style"?'),
    "no targets": ("[sword, blade]", "[]", "9:14: concepts[0].targets: ", "came an empty list", "at least one"),
    "one target": ("[sword, blade]", "sword", "9:14: concepts[0].targets: ", 'came the text "sword"', 'did you mean "[sword]"?'),
    "empty target": ("[sword, blade]", '[sword, ""]', "9:22: concepts[0].targets[1]: ", 'came the text ""'),
    "two lines": ("[sword, blade]", '[sword, "a\\nb"]', "9:22: concepts[0].targets[1]: ", "on one line", 'did you mean "a b"?'),
    "target twice": ("[sword, blade]", "[sword, A Sword]",
        "9:22: concepts[0].targets[1]: ", 'came "A Sword" again', "concepts[0].targets[0], line 9"),
    "target of two": ("    category: style", "    category: style\n    targets: [neon, Blade]",
        "14:21: concepts[1].targets[1]: ", 'came "Blade" again'),
    "concept twice": ("- name: neon", "- name: Sword", "12:11: concepts[1].name: ", 'came "Sword" again', "concepts[0].name, line 7"),
    "target retained": ("[cat, house]", "[cat, the blade]", "14:15: retain[1]: ", "concepts[0].targets[1] on line 9 erases", "not both"),
    "label retained": (
        "detector: mini", "detector: mini\n    label: house", "15:15: retain[1]: ", "concepts[0].label on line 12 erases", "not both"
    ),
    "concept retained by another": ("[cross, arrow]", "[cross, neon]",
        "10:21: concepts[0].retain[1]: ", "concepts[1].name on line 12 erases"),
    "neighbour twice": ("[cross, arrow]", "[cross, cross]", "10:21: concepts[0].retain[1]: ", "line 10"),
    "nonsense key": ("signing:", "x: 1\nsigning:", "21:1: x: ", 'came the unknown key "x"'),
    "key twice": ("seed: 7", "seed: 7\nname: other", "5:1: name: ", "came twice, first on line 2"),
    "key and demo": ("{demo: true}", "{key: a.pem, demo: true}", "21:29: signing.demo: ", "beside signing.key", "not both"),
    "unknown builtin": ("builtin:flux-mini", "flux-mini",
        "5:15: base.model: ", 'came the text "flux-mini"', 'did you mean "builtin:flux-mini"?'),
    "revision of the builtin": ("flux-mini}", f'flux-mini, revision: "{REVISION}"}}', "5:44: base.revision: ", "only a hub id has one"),
    "alias": ("seed: 7", "seed: *x", "4:7: seed: ", "came the alias *x"),
    "anchor": ("seed: 7", "seed: &x 7", "4:7: seed: ", "came the anchor &x"),
    "tag": ("seed: 7", "seed: !!python/name:os.system 7", "4:7: seed: ", "came the tag !!python/name:os.system"),
    "tab": ("    category: object", "\tcategory: object", "8:1: ", "came a tab", "spaces"),
    "second colon": ("name: demo", "name: demo: x", "2:11: ", 'second ":"', "quotes"),
    "open bracket": ("[cat, house]", "[cat, house", "15:7: ", "not YAML"),
    "second document": ("method: mask", "---\nmethod: mask", "15:1: ", "second document"),
    "directive": ("safeflux: 1", "%YAML 1.1\n---\nsafeflux: 1", "2:1: ", "directive"),
    "control character": ("name: demo", "name: de\x07mo", "2:9: ", "U+0007"),
}  # fmt: skip


def problems(tmp_path: Path, text: str | bytes) -> list[str]:
    file = tmp_path / "p.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(PolicyError) as caught:
        load_policy(file)
    assert all(problem.startswith(f"{file}") for problem in caught.value.problems)
    return [problem.removeprefix(f"{file}:") for problem in caught.value.problems]


def test_what_the_cases_start_from_is_good(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(GOOD, "utf-8")
    assert load_policy(file).name == "demo"


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_says_where_and_what(tmp_path: Path, case: tuple[str, ...]) -> None:
    old, new, start, *words = case
    assert GOOD.count(old) == 1, f"{old!r} has to be in the good policy once"
    found = problems(tmp_path, GOOD.replace(old, new))
    assert len(found) == 1, found
    assert found[0].startswith(start)
    for word in words:
        assert word in found[0]


@pytest.mark.parametrize("missing", ["safeflux", "name", "version"])
def test_missing_keys_are_named(tmp_path: Path, missing: str) -> None:
    text = "".join(line for line in GOOD.splitlines(keepends=True) if not line.startswith(f"{missing}:"))
    [found] = problems(tmp_path, text)
    assert found.startswith(f"1:1: {missing}: is missing; wanted: ")


def test_hub_ids_need_a_commit(tmp_path: Path) -> None:
    text = GOOD.replace("base: {model: builtin:flux-mini", HUB).replace(
        "    category: style", "    category: style\n    detector: zero-shot"
    )
    [found] = problems(tmp_path, text)
    assert found.startswith("5:15: base.revision: is missing; ")
    assert "40 hexadecimal digits" in found
    [moving] = problems(tmp_path, text.replace("FLUX.1-dev", "FLUX.1-dev, revision: main"))
    assert moving.startswith("5:55: base.revision: ")
    assert "a branch or tag can move" in moving


def test_other_models_need_a_detector(tmp_path: Path) -> None:
    [found] = problems(tmp_path, GOOD.replace("base: {model: builtin:flux-mini", f"{HUB}, revision: {REVISION}"))
    assert found.startswith("12:5: concepts[1].detector: is missing; ")
    assert "zero-shot" in found


def test_all_problems_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = (
        GOOD.replace("seed: 7", "sede: 7")
        .replace("[sword, blade]", "[sword, 3]")
        .replace("[cat, house]", "[cat, sword]")
        .replace("quick", "q")
    )
    found = problems(tmp_path, text)
    assert [problem.split(" ")[0] for problem in found] == ["4:1:", "9:22:", "14:15:", "18:11:"]


def test_no_concepts(tmp_path: Path) -> None:
    head, tail = GOOD.split("concepts:\n")
    [found] = problems(tmp_path, head + "concepts: []\n" + tail[tail.index("retain: [cat") :])
    assert found.startswith("6:11: concepts: came an empty list; allowed: at least one")


def test_not_a_mapping(tmp_path: Path) -> None:
    [found] = problems(tmp_path, "- 1\n- 2\n")
    assert found.startswith("1:1: came a list; allowed: a mapping with safeflux, name")


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_nothing_in_it(tmp_path: Path, text: str) -> None:
    [found] = problems(tmp_path, text)
    assert "safeflux" in found


def test_not_utf8(tmp_path: Path) -> None:
    [found] = problems(tmp_path, GOOD.replace("name: demo", "name: dämo").encode("latin-1"))
    assert found == "2:8: came the byte 0xe4; wanted: UTF-8"


def test_too_large(tmp_path: Path) -> None:
    [found] = problems(tmp_path, GOOD + "#" * 2**20)
    assert "at most 1 MiB" in found


def test_too_deep(tmp_path: Path) -> None:
    [found] = problems(tmp_path, "a: " + "[" * 100_000)
    assert "levels deep" in found


def test_a_flood_of_problems_is_cut(tmp_path: Path) -> None:
    found = problems(tmp_path, GOOD + "".join(f"x{i}: 1\n" for i in range(300)))
    assert len(found) == 101
    assert found[-1].endswith("and 200 more")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read: No such file"):
        load_policy(tmp_path / "none.yaml")
    with pytest.raises(PolicyError, match="cannot be read: Is a directory"):
        load_policy(tmp_path)
