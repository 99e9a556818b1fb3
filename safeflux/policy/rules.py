"""What a policy's shape cannot say: rules that tie one field to another.

They look at the marked tree, not at checked data, so that they speak up together with whatever else is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from safeflux.errors import OptionError, RegistryError
from safeflux.options import options
from safeflux.policy.fields import HUB_ID
from safeflux.policy.tree import Node, Problem
from safeflux.registry import Kind, names

Placed = tuple[str, Node]  # the path of a field, and the text in it


def check(root: Node) -> list[Problem]:
    """Every broken rule, in no particular order."""
    found: list[Problem] = []
    for rule in (_base, _words_twice, _words_both_ways, _detectors, _attacks, _exports, _bake, _signing, _unreadable):
        found.extend(rule(root))
    return found


def same(word: str) -> str:
    """A word as compared: without case, article and odd spacing."""
    return re.sub(r"^(a|an|the) ", "", " ".join(word.casefold().split()))


def at(node: Node | None, *keys: str) -> Node | None:
    for key in keys:
        node = node.value.get(key) if node is not None and isinstance(node.value, dict) else None
    return node


def items(node: Node | None) -> list[Node]:
    return node.value if node is not None and isinstance(node.value, list) else []


def texts(node: Node | None, path: str) -> list[Placed]:
    """The texts of a list with their paths; anything else in it is the shape check's to refuse."""
    return [(f"{path}[{i}]", item) for i, item in enumerate(items(node)) if isinstance(item.value, str)]


def choices(node: Node | None, path: str) -> list[Placed]:
    """Names chosen in ``node``: a name, a {name: options}, or a list of either. The node returned holds the name."""
    match node:
        case Node(value=str()):
            return [(path, node)]
        case Node(value=dict() as entries):
            return [(path, Node(name, *node.keys[name], raw=name)) for name in list(entries)[:1]]
        case Node(value=list() as inner):
            return [placed for i, item in enumerate(inner) for placed in choices(item, f"{path}[{i}]")]
    return []


def _say(placed: Placed, text: str) -> Problem:
    path, node = placed
    return Problem(node.line, node.column, path, text)


def _base(root: Node) -> Iterator[Problem]:
    merges = at(root, "base", "merges")
    yield from _twice(texts(merges, "base.merges"), "a release")
    if merges is not None and at(root, "base", "extends") is not None:
        yield _say(("base.merges", merges), "came beside base.extends; a release grows from one or is made of several, not both")
    model, revision = at(root, "base", "model"), at(root, "base", "revision")
    if model is None or not isinstance(model.value, str):
        return
    hub = re.fullmatch(HUB_ID, model.value)
    if hub and revision is None:
        yield _say(
            ("base.revision", model),
            f'is missing; the hub id "{model.value}" needs the 40 hexadecimal digits of a commit (a directory begins with "./")',
        )
    if not hub and revision is not None:
        yield _say(("base.revision", revision), f'came a revision for "{model.value}"; only a hub id has one')


def _words_twice(root: Node) -> Iterator[Problem]:
    """The same concept, target, neighbour or noun a second time."""
    concepts = items(at(root, "concepts"))
    named = [(f"concepts[{i}].name", name) for i, one in enumerate(concepts) if (name := at(one, "name"))]
    yield from _twice([placed for placed in named if isinstance(placed[1].value, str)], "a concept")
    yield from _twice(
        [placed for i, one in enumerate(concepts) for placed in texts(at(one, "targets"), f"concepts[{i}].targets")], "a target"
    )
    for i, one in enumerate(concepts):
        yield from _twice(texts(at(one, "retain"), f"concepts[{i}].retain"), "a neighbour")
    yield from _twice(texts(at(root, "retain"), "retain"), "a noun")


def _twice(placed: list[Placed], what: str) -> Iterator[Problem]:
    first: dict[str, Placed] = {}
    for path, node in placed:
        word = same(str(node.value))
        if word in first:
            before, there = first[word]
            yield _say(
                (path, node), f'came "{node.value}" again; it is {what} already at {before}, line {there.line}; each is allowed once'
            )
        first.setdefault(word, (path, node))


def _words_both_ways(root: Node) -> Iterator[Problem]:
    """A word that is to be erased and to be retained, be it as a name or as what the detector calls it."""
    erased: dict[str, Placed] = {}
    lists = texts(at(root, "retain"), "retain")
    for i, one in enumerate(items(at(root, "concepts"))):
        fields = [(f"concepts[{i}].{key}", node) for key in ("name", "label") if (node := at(one, key)) is not None]
        said = [(path, field) for path, field in fields if isinstance(field.value, str)]
        for path, node in said + texts(at(one, "targets"), f"concepts[{i}].targets"):
            erased.setdefault(same(str(node.value)), (path, node))
        lists += texts(at(one, "retain"), f"concepts[{i}].retain")
    for path, node in lists:
        if (clash := erased.get(same(str(node.value)))) is not None:
            yield _say(
                (path, node),
                f'came "{node.value}", which {clash[0]} on line {clash[1].line} erases; a word is erased or retained, not both',
            )


def _detectors(root: Node) -> Iterator[Problem]:
    """Only the embedded model has a detector of its own."""
    model = at(root, "base", "model")
    if model is None or not isinstance(model.value, str) or "/" not in model.value:  # builtin, or nothing known
        return
    for i, one in enumerate(items(at(root, "concepts"))):
        if isinstance(one.value, dict) and "detector" not in one.value:
            said = f'is missing; the base model "{model.value}" has none of its own; wanted: one of {", ".join(names("detector"))}'
            yield _say((f"concepts[{i}].detector", one), said)


def _attacks(root: Node) -> Iterator[Problem]:
    attacks = at(root, "audit", "attacks")
    chosen = choices(attacks, "audit.attacks")
    yield from _twice(chosen, "an attack")
    if attacks is not None and chosen and "none" not in [node.value for _, node in chosen]:
        yield _say(("audit.attacks", attacks), 'lacks "none"; direct prompts are what limits.detection is measured on')


def _exports(root: Node) -> Iterator[Problem]:
    chosen = choices(at(root, "exports"), "exports")
    yield from _twice(chosen, "an export")
    for placed in chosen:
        if (name := str(placed[1].value)) in names("exporter") and name not in names("loader"):
            yield _say(placed, f'nothing loads what "{name}" writes, so it could not be checked; its package has to register a loader too')


def _bake(root: Node) -> Iterator[Problem]:
    """What belongs to one layout beside the other."""
    layout, decoys, multiple = (at(root, "bake", key) for key in ("layout", "decoys", "multiple"))
    removed = layout is not None and layout.value == "removed"
    also = [placed for placed in choices(at(root, "exports"), "exports") if placed[1].value == "removed"]
    if removed and decoys is not None and decoys.value is True:
        yield _say(("bake.decoys", decoys), "came true beside layout: removed; slots that are cut out cannot be filled")
    if multiple is not None and not removed and not also:
        yield _say(("bake.multiple", multiple), "came without layout: removed or the export removed; zeros in place have the base's widths")
    if removed:
        yield from (_say(placed, "came beside layout: removed; the release itself has that layout") for placed in also)


def _signing(root: Node) -> Iterator[Problem]:
    key, demo = at(root, "signing", "key"), at(root, "signing", "demo")
    if key is not None and demo is not None and demo.value is True:
        yield _say(
            ("signing.demo", demo), "came true beside signing.key; a release is signed with your key or with a throw-away one, not both"
        )


def _unreadable(root: Node) -> Iterator[Problem]:
    """A chosen name whose options cannot be read: a broken plug-in."""
    detectors = [
        placed for i, one in enumerate(items(at(root, "concepts"))) for placed in choices(at(one, "detector"), f"concepts[{i}].detector")
    ]
    chosen: list[tuple[Kind, list[Placed]]] = [
        ("method", choices(at(root, "method"), "method")),
        ("attack", choices(at(root, "audit", "attacks"), "audit.attacks")),
        ("exporter", choices(at(root, "exports"), "exports")),
        ("detector", detectors),
    ]
    for kind, every in chosen:
        for placed in every:
            try:
                options(kind, str(placed[1].value))
            except RegistryError:
                continue  # unknown names are the shape check's
            except OptionError as error:
                yield _say(placed, f'the {kind} "{placed[1].value}" cannot be used: {error}')
