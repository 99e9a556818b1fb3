"""Looking at a release without a key: everything is shown, nothing crashes, nothing is believed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from signed_release import CLAIMS, FILES, MOMENT

from safeflux_signing import dsse, keys
from safeflux_signing.errors import InputError
from safeflux_signing.keys import PrivateKey
from safeflux_signing.unverified import look


def test_it_shows_what_is_said_whoever_says_it(release: Path, key: PrivateKey) -> None:
    said = look(release)
    assert said.manifest is not None
    assert said.manifest.release is not None
    assert (said.manifest.release.release_id, said.manifest.release.sequence, said.manifest.release.created) == ("demo-1.0", 3, MOMENT)
    assert said.hint == keys.hint(key.public_key())
    assert said.sizes == {name: len(data) for name, data in FILES.items()}
    assert [(claim.predicate_type, claim.predicate, claim.required) for claim in said.claims] == [(*claim, True) for claim in CLAIMS]
    assert said.troubles == ()


def test_it_judges_neither_files_nor_signature(release: Path, key: PrivateKey, other: PrivateKey) -> None:
    before = look(release)
    (release / "a-b").write_bytes(b"?")
    bundle = dsse.loads((release / "model.sig").read_bytes(), "")
    forged = dsse.Bundle(bundle.payload, dsse.seal(b"{}", other).signature, bundle.hint)
    (release / "model.sig").write_bytes(dsse.dumps(forged))
    assert look(release) == before


def test_what_is_missing_or_too_much_is_named(release: Path) -> None:
    lines = (release / "claims.jsonl").read_bytes().splitlines(keepends=True)
    (release / "claims.jsonl").write_bytes(lines[0] + b"{}\n")
    (release / "link").symlink_to("/")
    (release / "evil.py").write_text("")
    said = look(release)
    assert [finding.code for finding in said.troubles] == ["symlink", "bundle-shape", "claim-missing", "claim-missing"]
    assert said.troubles[1].what.startswith("line 2: ")
    assert "evil.py" in said.sizes
    (release / "model.sig").unlink()
    assert {finding.code for finding in look(release).troubles} >= {"signature-missing"}
    with pytest.raises(InputError):
        look(release / "nowhere")


def test_broken_files_are_troubles_and_not_errors(release: Path) -> None:
    rng = random.Random(7)
    kept = {name: (release / name).read_bytes() for name in ("model.sig", "claims.jsonl")}
    troubles = 0
    for _ in range(400):
        name = rng.choice(sorted(kept))
        data = bytearray(kept[name])
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(len(data))
            data[place : place + rng.choice([0, 1, 1, 9])] = rng.choice([b"", b"\x00", b"\xff", b"9", b"\n", b"[", b'"', b"\\ud800"])
        (release / name).write_bytes(data)
        troubles += bool(look(release).troubles)
        (release / name).write_bytes(kept[name])
    assert troubles > 300


def test_a_manifest_of_any_shape_is_a_trouble(release: Path, resign: Callable[[Path, Callable[[Any], Any]], None]) -> None:
    for edit in (
        lambda s: s["subject"][0]["annotations"]["safeflux"].update(requiredClaims=[{}]),
        lambda s: s["predicate"]["resources"][0].update(name="../../etc/passwd"),
        lambda s: s.update(predicate=None),
        lambda s: b"[" * 10**6,
    ):
        resign(release, edit)
        said = look(release)
        assert said.manifest is None
        assert said.troubles
