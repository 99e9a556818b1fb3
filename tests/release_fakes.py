"""A whole release in milliseconds: everything that needs torch replaced by something that writes small files.

What is faked stands in for prepare, the method, bake, the audit and the pages for people; planning, keys, the workspace,
exporting, the report's JSON and signing are real. ``calls`` counts what was done. Run as a program it makes a release and
dies where it is told to.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import safeflux
from safeflux import baking, exporting, files, stages
from safeflux.policy import Policy
from safeflux.release import release
from safeflux.report import decide
from safeflux.statistics import wilson
from safeflux.types import Finding, Masks

POLICY = """safeflux: 1
name: tiny
version: "1.0"
seed: 7
base: {model: ./base}
concepts:
  - {name: sword, category: object, anchor: a shape, retain: [arrow], detector: mini}
retain: [flower, sun]
method: mask
limits: {detection: 0.10, attack_success: 0.30, retained: 0.80}
audit: {preset: quick, attacks: [none], images: 120}
report: {license: Apache-2.0, pairs: 1}
signing: {key: publisher.key}
"""
STAGES = ("plan", "commit", "prepare", "erase", "bake", "audit", "export", "check", "report", "sign")
calls: Counter[str] = Counter()
hits = 1  # pictures of 120 in which the erased model still draws the concept


def write_base(directory: Path) -> None:
    """What planning and exporting read of a diffusers directory."""
    index = {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"], "vae": ["diffusers", "AutoencoderKL"]}
    texts = {
        "model_index.json": json.dumps(index),
        "transformer/config.json": '{"num_layers": 1}',
        "vae/config.json": "{}",
        "LICENSE": "do\n",
    }
    for name, text in {**texts, "transformer/weights.safetensors": "base", "vae/weights.safetensors": "vae"}.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def prepare(policy: Policy, plan: Any, out: Path, *, model: Any, progress: Any) -> None:
    calls["prepare"] += 1
    progress("prompts", 1, 1)
    (out / "prompts.json").write_text(f"{policy.seed} {policy.concepts[0].targets}")


def mask(model: Any, task: str, *, updates: int = 4, batch: int = 1, scratch: Path | None = None, progress: Any = None) -> Masks:
    """Four updates, each kept in ``scratch``; dies in the third one if it is told to."""
    calls["erase"] += 1
    assert scratch is not None
    state = scratch / "state"
    done = state.read_text().split() if state.exists() else []
    for update in range(len(done), updates):
        if os.environ.get("DIE_IN_UPDATE") == str(update):
            os.kill(os.getpid(), signal.SIGKILL)
        calls["updates"] += 1
        done.append(f"{task}/{update}".replace(" ", ""))
        state.write_text(" ".join(done))
        progress("updates", update + 1, updates)
    return Masks({"ff": done})  # type: ignore[dict-item]


def bake(model_dir: Path, edit: Masks, out: Path, layout: object, *, kept: bool) -> None:
    calls["bake"] += 1
    (out / "transformer").mkdir(parents=True)
    for name in ("model_index.json", "transformer/config.json"):
        (out / name).write_bytes((model_dir / name).read_bytes())
    (out / "transformer" / "weights.safetensors").write_text(f"baked {edit.keep['ff']}")


@dataclass(frozen=True)
class Subject:
    load: Any
    digest: str


def audit(base: Subject, erased: Subject, policy: Policy, task: Any, *, store: Path, jobs: int) -> Any:
    calls["audit"] += 1
    store.mkdir(parents=True, exist_ok=True)
    for digest in (base.digest, erased.digest):
        if not (store / digest).exists():
            calls["draw"] += 1
            task.progress("pictures", 1, 1)
            (store / digest).write_text("pictures")
    return SimpleNamespace(findings=tuple(_findings(policy)), pairs=(), detectors=({"name": "mini", "role": "judge"},))


def check(request: Any, findings: Sequence[Mapping[str, Any]], limit: Any) -> Mapping[str, object]:
    name, exported, *_ = request.given
    assert Path(exported).is_dir()
    assert findings
    return {
        "format": name, "consumer": "a fake", "weights_error": 0.0, "relative_error": 0.0, "tolerance": 1e-5,
        "concepts": [{"concept": "sword", "k": 0, "n": 6}],
    }  # fmt: skip


def _findings(policy: Policy) -> Iterator[Finding]:
    def line(concept: str | None, metric: str, model: Any, k: int, status: Any) -> Finding:
        low, high = wilson(k, 120)
        return Finding(concept, "none", metric, model, k, 120, k / 120, low, high, status, seed=policy.seed)

    ceiling, floor = policy.limits.detection, policy.limits.retained
    control, stays = line("sword", "detection", "base", 119, "control"), line(None, "retained", "base", 118, "control")
    yield from (control, stays)
    yield decide(line("sword", "detection", "erased", hits, "unchecked"), control, ceiling.value, ceiling.confidence)
    yield decide(line(None, "retained", "erased", 117, "unchecked"), stays, floor.value, floor.confidence, keep=True)


def _parity(*_: object) -> Mapping[str, object]:
    return {"max_relative_error": 1e-7, "tolerance": 1e-5, "images": 2, "steps": 4, "dtype": "float32"}


def named(*paths: Path) -> str:
    """Instead of a digest of the code: what is tested here must not hang on whether somebody edits it meanwhile."""
    return " ".join(path.name for path in paths)


@contextmanager
def faked() -> Iterator[None]:
    """The modules that need torch or time, replaced; and nothing waits for the disk, which only a power cut would show."""
    modules: dict[str, dict[str, Any]] = {
        "prepare": {"prepare": prepare, "load_task": lambda policy, plan, directory, **_: (directory / "prompts.json").read_text()},
        "bake": {"bake": bake, "parity": _parity, "in_force": lambda model, edit: nullcontext()},
        "check": {
            "Request": lambda *given: SimpleNamespace(given=given), "check": check,
            "compared": lambda *_: [], "write_reference": lambda *_, **__: None,
        },
        "minimality": {"difference": lambda base, baked: {"parameters": 80, "changed": 40, "zeroed": 40, "relative_change": 0.5}},
        "audit_instruments": {"shows": lambda policy: None},
        "layouts": {"DENSE": None, "Layout": SimpleNamespace},
        "edits": {
            "edited": lambda edit, directory: {},
            "read_mask": lambda base, baked: Masks({}), "product": lambda masks: Masks({}), "extended": lambda earlier, edit: edit,
            "erased": lambda edit: {"ff": {"units": 8, "removed": len(edit.keep["ff"])}},
            "save_edit": lambda edit, path, metadata: path.write_text(json.dumps(edit.keep)),
            "load_edit": lambda path: Masks(json.loads(path.read_text())),
        },
        "audit": {"audit": audit},
        "audit_drawing": {"Subject": Subject},
        "methods.mask": {"mask": mask},
        "render": {"html": lambda data, images: f"<p>{data['verdict']}", "model_card": lambda data, settings: f"# {settings['license']}\n"},
    }  # fmt: skip
    fakes = {f"safeflux.{name}": ModuleType(f"safeflux.{name}") for name in modules}
    for name, contents in modules.items():
        vars(fakes[f"safeflux.{name}"]).update(contents)
    model = SimpleNamespace(device=SimpleNamespace(type="cpu"), guidance=None, free_text_encoders=lambda: None)
    loading, digests = mock.patch.object(stages.Run, "load", return_value=model), mock.patch.object(files, "source_digest", named)
    left = {name: fakes[f"safeflux.{name}"] for name in ("render", "check")}
    attributes = mock.patch.dict(vars(safeflux), left)  # what an earlier import left on the package
    with mock.patch.dict(sys.modules, fakes), attributes, loading, digests, mock.patch("os.fsync"):
        yield


def die_in(stage: str) -> None:
    """Have ``stage`` write all it would, cut one of its files short, and be killed before it is finished."""

    def deadly(real: Any) -> Any:
        def make(*args: Any, **options: Any) -> None:
            real(*args, **options)
            out = args[0] if stage == "sign" else args[1]
            largest = max((p for p in out.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
            os.truncate(largest, largest.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

        return make

    modules = {"sign": sys.modules[release.__module__], "bake": baking, "export": exporting, "check": exporting}
    where, name = modules.get(stage, stages), "write_plan" if stage == "plan" else stage
    setattr(where, name, deadly(getattr(where, name)))


if __name__ == "__main__":
    if sys.argv[3:]:
        die_in(sys.argv[3])
    with faked():
        release(Path(sys.argv[1]), out=Path(sys.argv[2]))
