"""What each format costs: bytes, seconds to write it and of processor, largest memory of the process, and how far apart the model that
comes back draws.

    python bench/export.py                          the embedded FLUX, every format but ONNX
    python bench/export.py --formats onnx onnx:precision=fp16     ONNX, which takes minutes
    python bench/export.py --full-width             two blocks of each kind, 3072 wide, random: for size, time and memory

Each format is written by a process of its own, so that its memory is its own, and, for the embedded FLUX, loaded by another one
and compared with the model (largest difference of the final latents over the largest latent), as the check of a release does.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safeflux import check, registry
from safeflux.plan.base import MINI

FORMATS = ("diffusers", "single-file", "fp8", "gguf", "delta")
TEXTS = ["a sword", "a cat in a meadow", "a house at night", "a red heart"]


def written(name: str, model: Path, base: Path, out: Path, options: dict[str, str]) -> dict[str, float]:
    """Run in a process of its own: write one format."""
    out.mkdir()
    start, busy = time.perf_counter(), time.process_time()
    files = registry.get("exporter", name)(model, out, base=base, **options)
    seconds, processor = time.perf_counter() - start, time.process_time() - busy
    memory = largest_memory()
    return {"bytes": sum(path.stat().st_size for path in files), "seconds": seconds, "processor": processor, "memory": memory}


def largest_memory() -> int:
    """Of this process, in bytes. On Linux not by ``getrusage``, whose number is never less than that of the process that started it."""
    status = Path("/proc/self/status")
    if status.is_file():
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def full_width(out: Path) -> Path:
    """A transformer of two blocks of each kind at FLUX.1's width, bfloat16, random."""
    import torch
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        model = FluxTransformer2DModel(num_layers=2, num_single_layers=2, guidance_embeds=True)
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
    model.save_pretrained(out / "transformer")
    return out


def masked(out: Path) -> Path:
    """The embedded FLUX without every eighth neuron: something for the delta to tell."""
    import torch

    from safeflux.bake import bake
    from safeflux.edits import empty_transformer
    from safeflux.exporters.diffusers import diffusers
    from safeflux.models.declared import find_sites
    from safeflux.types import Masks

    sites = find_sites(empty_transformer(MINI / "transformer")).values()
    bake(MINI, Masks({site.name: torch.arange(site.units) % 8 != 0 for site in sites if site.kind == "neuron"}), out / "baked")
    diffusers(out / "baked", out / "root", base=MINI)
    return out / "root"


def told(name: str, exported: Path, root: Path, reference: Path) -> str:
    """How the format draws when another process has loaded it."""
    masks = exported / "masks.safetensors"
    request = check.Request(
        name, str(exported), str(root), str(MINI), str(masks) if name == "delta" else None, str(reference), TEXTS, [], 5, 4, "float32"
    )
    return f"{check.fresh(request)['relative_error']:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", nargs="+", default=None)
    parser.add_argument("--full-width", action="store_true")
    parser.add_argument("--write", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        name, model, base, out, options = given.write
        print(json.dumps(written(name, Path(model), Path(base), Path(out), json.loads(options))))
        return
    wide = given.full_width
    formats = given.formats or (("single-file", "fp8", "gguf") if wide else FORMATS)
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        root, base = (full_width(work / "model"),) * 2 if wide else (masked(work), MINI)
        reference = work / "reference.safetensors"
        if not wide:
            from safeflux.models.flux1 import Flux1

            check.write_reference(Flux1.load(root), TEXTS, reference, seed=5, steps=4)
        print("| format | MB | s | s of processor | memory, GB | latents off by |\n|---|---|---|---|---|---|")
        for spec in formats:
            name, _, option = spec.partition(":")
            options = {"keys": "diffusers"} if not wide and name in ("single-file", "fp8", "gguf") else {}
            options |= dict([option.split("=")]) if option else {}
            out = work / spec.replace(":", "-")
            command = [sys.executable, __file__, "--write", name, str(root), str(base), str(out), json.dumps(options)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            cost = json.loads(done.stdout.splitlines()[-1])
            apart = "" if wide else told(name, out, root, reference)
            numbers = (f"{cost['bytes'] / 1e6:.2f}", f"{cost['seconds']:.1f}", f"{cost['processor']:.1f}", f"{cost['memory'] / 1e9:.2f}")
            print(f"| {' | '.join((spec, *numbers, apart))} |", flush=True)


if __name__ == "__main__":
    main()
