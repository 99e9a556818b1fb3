"""Releases in each layout: what is in them, that they are checked, loaded and read back, and where the random order comes from."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from diffusers import FluxPipeline
from test_release_tiny import POLICY, _coin, made, mask_of  # noqa: F401

import safeflux
from safeflux import baking, check
from safeflux.errors import StageError
from safeflux.files import digest, tree
from safeflux.policy import Base
from safeflux.policy.model import Bake
from safeflux.train import goals
from safeflux.types import KEPT
from safeflux_signing import keys


@pytest.mark.usefixtures("_coin")
def test_a_release_with_neurons_cut_out_loads_is_read_back_and_grows_into_one_with_decoys(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(goals, "SURE", 6)
    monkeypatch.setattr(check, "fresh", check.answer)  # in this process: the other way is shown where it belongs
    policy = POLICY.format(model=tiny)
    first = made(policy + "bake: {layout: removed, kept: always}\n", tmp_path / "first")
    assert first.public_key is not None
    pipeline = safeflux.load(first.release_dir, trust=first.public_key)
    assert type(pipeline.transformer).__name__ == "SafeFluxTransformer2DModel"
    closed = {name: ~keep for name, keep in mask_of(first, tiny).items()}
    widths = {name: int((~gone).sum()) for name, gone in closed.items() if name in pipeline.transformer.config.widths}
    assert widths == pipeline.transformer.config.widths
    assert widths
    assert (first.release_dir / KEPT).is_file()

    files, base = tree(first.release_dir), tree(tiny)
    preserved = {name: value for name, value in base.items() if name.split("/")[0] not in ("transformer", "model_index.json")}
    assert {name: files[name] for name in preserved} == preserved

    report = json.loads((first.release_dir / "erasure_report.json").read_text())
    assert (report["bake"]["layout"], report["bake"]["decoys"]) == ("removed", False)
    assert report["bake"]["preserved"] == preserved
    assert report["bake"]["relative_error"] <= 1e-5
    assert [(one["format"], one["weights_error"]) for one in report["exports"]] == [("diffusers", 0)]
    assert report["edit"]["zeroed"] > 0

    grown = policy.replace(f"model: {tiny}", f"model: {tiny}, extends: {first.release_dir}")
    second = made(grown + "bake: {decoys: true, multiple: 8}\nexports: [diffusers, removed]\n", tmp_path / "second")
    assert not any((keep & closed[name]).any() for name, keep in mask_of(second, tiny).items())
    told = second.report.exports
    assert [(one["format"], one["weights_error"]) for one in told] == [("diffusers", 0), ("removed", 0)]
    dense, removed = (FluxPipeline.from_pretrained(second.release_dir / at) for at in (".", "exports/removed"))
    assert type(dense.transformer).__name__ == "FluxTransformer2DModel"
    assert all(width % 8 == 0 for width in removed.transformer.config.widths.values())
    assert not list(second.release_dir.rglob(KEPT)), "the base is a directory, so nobody is told"
    assert not list(second.release_dir.rglob("order*"))


class Fickle:
    """A key whose signatures differ each time."""

    def __init__(self, key: Any) -> None:
        self.key, self.signed = key, 0
        self.draws = secrets.token_bytes(8)

    def public_key(self) -> Any:
        return self.key.public_key()

    def sign(self, data: bytes, /) -> bytes:
        self.signed += 1
        return self.draws + bytes([self.signed])


def run_of(folder: Path, edit: bytes = b"an edit") -> Any:
    (folder / "erase").mkdir(parents=True)
    (folder / "erase" / "edit.safetensors").write_bytes(edit)
    return SimpleNamespace(path=lambda stage, *names: folder.joinpath(stage, *names))


def secret_of(folder: Path, signer: Any, edit: bytes = b"an edit") -> bytes:
    out = folder / "bake.partial"
    run = run_of(folder, edit)
    out.mkdir()
    return baking._secret(run, out, signer)


def test_the_order_is_that_of_key_and_edit(tmp_path: Path) -> None:
    one, other = (keys.KINDS["p256"].make() for _ in range(2))
    found = [
        secret_of(tmp_path / str(n), key, edit)
        for n, (key, edit) in enumerate([(one, b"edit"), (one, b"edit"), (other, b"edit"), (one, b"another")])
    ]
    assert found[0] == found[1]
    assert len(set(found)) == 3
    assert all(len(secret) == 32 for secret in found)


def test_what_a_fickle_key_drew_is_kept(tmp_path: Path) -> None:
    signer = Fickle(keys.KINDS["p256"].make())
    first = secret_of(tmp_path, signer)
    (tmp_path / "bake.partial").rename(tmp_path / "bake")
    (tmp_path / "again").mkdir()
    run = SimpleNamespace(path=lambda stage, *names: tmp_path.joinpath(stage, *names))
    assert baking._secret(run, tmp_path / "again", signer) == first
    assert baking._secret(run, tmp_path / "again", Fickle(keys.KINDS["p256"].make())) != first
    assert signer.signed == 1
    assert digest(tmp_path / "bake" / "order.json")


class Keyless:
    """Somebody whom Sigstore certifies, and who would publish what is signed."""

    ident = "sigstore:"

    def seal(self, payload: bytes, /) -> bytes:
        raise AssertionError("this is to be published nowhere")


def test_who_keeps_no_key_draws_at_random_and_keeps_what_was_drawn(tmp_path: Path) -> None:
    first, other = (secret_of(tmp_path / name, Keyless()) for name in ("one", "other"))
    assert first != other
    assert len(first) == 32
    (tmp_path / "one" / "bake.partial").rename(tmp_path / "one" / "bake")
    (tmp_path / "again").mkdir()
    run = SimpleNamespace(path=lambda stage, *names: tmp_path.joinpath("one", stage, *names))
    assert baking._secret(run, tmp_path / "again", Keyless()) == first
    asked = baking.asked(SimpleNamespace(bake=Bake(decoys=True), exports=(), base=Base("x")), Keyless())  # type: ignore[arg-type]
    assert asked["signer"] == "sigstore:"


def test_a_key_that_does_not_sign_is_an_error(tmp_path: Path) -> None:
    from safeflux_signing.errors import refusal

    class Broken(Fickle):
        def sign(self, data: bytes, /) -> bytes:
            raise refusal("signer-failed", "token", "no token")

    with pytest.raises(StageError, match="order of neurons cannot be drawn"):
        secret_of(tmp_path, Broken(keys.KINDS["p256"].make()))


@pytest.mark.parametrize(
    ("base", "kept", "published"),
    [
        (Base("builtin:flux-mini"), "if-public", True),
        (Base("a/b", "0" * 40), "if-public", True),
        (Base("./here"), "if-public", False),
        (Base("./here"), "always", True),
        (Base("a/b", "0" * 40), "never", False),
    ],
)
def test_kept_neurons_are_told_where_anybody_can_see_them(base: Base, kept: Any, published: bool) -> None:
    assert baking._kept(SimpleNamespace(base=base, bake=Bake("removed", kept=kept))) is published  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bake", "exports", "wanted"),
    [
        (Bake(), ["diffusers"], ["dense"]),
        (Bake("removed"), ["diffusers"], ["removed"]),
        (Bake(), ["diffusers", "removed"], ["dense", "removed"]),
        (Bake("removed"), ["diffusers", "gguf"], ["dense", "removed"]),
    ],
)
def test_only_what_somebody_exports_is_baked(bake: Bake, exports: list[str], wanted: list[str]) -> None:
    policy = SimpleNamespace(bake=bake, exports=[SimpleNamespace(name=name) for name in exports])
    assert list(baking._directories(policy)) == wanted  # type: ignore[arg-type]
