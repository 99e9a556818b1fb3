"""Every stage for real, on a tiny random FLUX: what one writes, the next can read, and stock diffusers can load the end of it.

A random model draws nothing, so its detector tosses a coin: what is shown here is that the stages fit together, not that
anything was erased.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from safeflux import check, registry
from safeflux.edits import empty_transformer, read_mask
from safeflux.files import tree
from safeflux.merge import merged_policy
from safeflux.models.declared import find_sites
from safeflux.release import ReleaseResult, release
from safeflux.train import goals
from safeflux_signing import keys
from safeflux_signing.verify import verify

POLICY = """safeflux: 1
name: tiny
version: "0.1"
base: {{model: {model}}}
concepts:
  - {{name: sword, category: object, targets: [sword, blade], anchor: a shape, retain: [cross], detector: coin}}
retain: [tree, house]
method: {{mask: {{updates: 14, batch: 4, rate: 2.0}}}}
limits: {{detection: 0.9, attack_success: 0.9, retained: 0.1}}
audit: {{attacks: [none, paraphrase], images: 30}}
report: {{pairs: 1}}
signing: {{demo: true}}
"""


@dataclass(frozen=True)
class Coin:
    name: str = "coin"
    threshold: float = 0.5
    digest: str = "0" * 64
    labels: tuple[str, ...] | None = None

    def __call__(self, images: np.ndarray, label: str) -> np.ndarray:
        return np.array([int(image.astype(np.int64).sum()) % 2 == 0 for image in images])


def coin() -> Coin:
    return Coin()


@pytest.fixture
def _coin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(registry.BUILT_IN, "detector", registry.BUILT_IN["detector"] | {"coin": f"{__name__}:coin"})
    registry._table.cache_clear()
    monkeypatch.setattr(check, "fresh", check.answer)  # another process would not have the coin
    yield
    monkeypatch.undo()
    registry._table.cache_clear()


@pytest.mark.usefixtures("_coin")
def test_release_of_a_tiny_flux_is_whole_signed_and_loadable(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import FluxPipeline

    monkeypatch.setattr(goals, "SURE", 6)
    (tmp_path / "policy.yaml").write_text(POLICY.format(model=tiny))
    result = release(tmp_path / "policy.yaml", out=tmp_path / "run", allow_failing=True)
    assert result.public_key is not None
    verify(result.release_dir, [keys.load_public(result.public_key)])
    made, base = tree(result.release_dir), tree(tiny)
    components = {name for name in base if "/" in name and not name.startswith("transformer/")}
    assert components
    assert {name: made[name] for name in components} == {name: base[name] for name in components}

    report = json.loads((result.release_dir / "erasure_report.json").read_text())
    removed = sum(site["removed"] for site in report["edit"]["sites"])
    changed = [name for name in base if name.startswith("transformer/") and name.endswith(".safetensors") and made[name] != base[name]]
    assert bool(changed) == bool(removed)
    assert report["bake"]["relative_error"] <= 1e-5
    [exported] = report["exports"]
    assert (exported["format"], exported["weights_error"], exported["concepts"][0]["n"]) == ("diffusers", 0, check.PICTURES)
    assert exported["relative_error"] <= exported["tolerance"] == 1e-5
    assert {finding["attack"] for finding in report["findings"]} == {"none", "paraphrase"}
    assert {pair["base"] for pair in report["pairs"]} <= made.keys()

    pipe = FluxPipeline.from_pretrained(result.release_dir, use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    picture = pipe("a tree", num_inference_steps=1, height=32, width=32, output_type="np").images[0]
    assert np.isfinite(picture).all()


NEON = "  - {name: neon, category: style, anchor: a shape, detector: coin}\n"


def made(text: str, out: Path) -> ReleaseResult:
    (out.with_suffix(".yaml")).write_text(text)
    return release(out.with_suffix(".yaml"), out=out, allow_failing=True)


def mask_of(result: ReleaseResult, base: Path) -> dict[str, Tensor]:
    sites = find_sites(empty_transformer(base / "transformer"))
    keep = read_mask(base / "transformer", result.release_dir / "transformer").keep
    return {name: keep.get(name, torch.ones(site.units, dtype=torch.bool)) for name, site in sites.items()}


@pytest.mark.usefixtures("_coin")
def test_a_release_can_grow_and_two_can_become_one(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the earlier release erased stays erased; of the merged ones the report has the product beside what came of it."""
    monkeypatch.setattr(goals, "SURE", 6)
    sword = POLICY.format(model=tiny)
    first = made(sword, tmp_path / "first")
    closed = {name: ~keep for name, keep in mask_of(first, tiny).items()}
    assert sum(int(gone.sum()) for gone in closed.values()) > 0

    grown = sword.replace(f"model: {tiny}", f"model: {tiny}, extends: {first.release_dir}").replace("retain: [tree", NEON + "retain: [tree")
    grown_up = made(grown, tmp_path / "grown")
    assert not any((keep & closed[name]).any() for name, keep in mask_of(grown_up, tiny).items())
    assert [one["name"] for one in grown_up.report.base["lineage"]] == ["tiny"]  # type: ignore[attr-defined]

    second = made(re.sub(r"  - \{name: sword.*\n", NEON, sword).replace("name: tiny", "name: other"), tmp_path / "second")
    merged = made(merged_policy([first.release_dir, second.release_dir], base=str(tiny)), tmp_path / "merged")
    assert set(merged.report.concepts) == {"sword", "neon"}
    assert [one["name"] for one in merged.report.base["lineage"]] == ["tiny", "other"]  # type: ignore[attr-defined]
    assert set(merged.report.training["product"]) == set(merged.report.training["rates"])  # type: ignore[call-overload]
    assert "product of the merged masks" in (merged.release_dir / "erasure_report.html").read_text()
    assert str(tmp_path) not in (merged.release_dir / "policy.lock.yaml").read_text()
