"""What compiling costs where neurons were cut out: ``python bench/compile.py`` writes the table of docs/compiling.md.

``compile_repeated_blocks`` of diffusers compiles a block once and uses it for all of its kind, as long as they look alike. Where neurons
were cut out each block has widths of its own, and is compiled for itself until torch's limit for one function (``recompile_limit``); the
rest then runs as it is. A FLUX with random weights, narrow, with more blocks of each kind than that limit; every row is a process of
its own with an empty cache. Processor time is dominated by the compiler, so the width of the model hardly matters.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HEADS, HEAD_DIM, GONE = 2, 16, 0.1
ROWS = (  # what of the neurons is cut out, widths rounded up to a multiple of, blocks compiled apart, torch's limit
    ("dense", "dense", 1, True, 0),
    ("removed", "removed", 1, True, 0),
    ("removed, widths rounded up to a multiple of 16", "removed", 16, True, 0),
    ("removed, and a limit of as many as there are blocks", "removed", 1, True, -1),
    ("dense, all in one", "dense", 1, False, 0),
    ("removed, all in one", "removed", 1, False, 0),
)


def made(place: Path, blocks: int, layout: str, multiple: int) -> Path:
    """A FLUX of so many blocks of each kind, a tenth of whose neurons was erased, as ``layout`` leaves it."""
    import torch
    from diffusers import FluxTransformer2DModel

    from safeflux.bake import bake
    from safeflux.layouts import Layout
    from safeflux.models.declared import find_sites
    from safeflux.types import Masks

    torch.manual_seed(0)
    base = FluxTransformer2DModel(
        num_layers=blocks, num_single_layers=blocks, num_attention_heads=HEADS, attention_head_dim=HEAD_DIM, in_channels=64,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    base.save_pretrained(place / "base" / "transformer")
    (place / "base" / "model_index.json").write_text(
        json.dumps({"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]})
    )
    sites = [site for site in find_sites(base).values() if site.kind == "neuron" and site.group != "text_embedder"]
    random = torch.Generator().manual_seed(1)
    keep = {site.name: torch.rand(site.units, generator=random) >= GONE * 2 * torch.rand(1, generator=random) for site in sites}
    bake(place / "base", Masks(keep), place / "baked", Layout(layout, multiple=multiple, secret=b"bench"))  # type: ignore[arg-type]
    return place / "baked" / "transformer"


def compiled(transformer: Path, apart: bool, limit: int) -> dict[str, Any]:
    """Run in a process of its own: processor seconds of the first call beyond those of a plain one, graphs, and the largest difference."""
    import torch
    import torch._dynamo
    from torch._dynamo.testing import CompileCounterWithBackend

    from safeflux.models.removed import transformer_class

    torch.set_num_threads(1)
    if limit:
        torch._dynamo.config.recompile_limit = limit
    model = transformer_class(transformer).from_pretrained(transformer).eval()
    counter = CompileCounterWithBackend("inductor")
    n, tokens = 2, 16
    inputs: dict[str, Any] = {
        "hidden_states": torch.randn(n, tokens, 64), "encoder_hidden_states": torch.randn(n, 8, 32), "return_dict": False,
        "pooled_projections": torch.randn(n, 32), "timestep": torch.rand(n),
        "img_ids": torch.zeros(tokens, 3), "txt_ids": torch.zeros(8, 3),
    }  # fmt: skip
    with torch.no_grad():
        plain = model(**inputs)[0]
        if apart:
            model.compile_repeated_blocks(backend=counter)
        else:
            model.compile(backend=counter)
        begun = time.process_time() + sum(os.times()[2:4])
        first = model(**inputs)[0]
        seconds = time.process_time() + sum(os.times()[2:4]) - begun
    widths = len({tuple(p.shape for p in b.parameters()) for b in [*model.transformer_blocks, *model.single_transformer_blocks]})
    return {"graphs": counter.frame_count, "seconds": seconds, "widths": widths, "apart": float((first - plain).abs().max())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=10, help="of each kind (default: %(default)s)")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        _, layout, multiple, apart, limit = ROWS[given.one]
        with tempfile.TemporaryDirectory() as place:
            found = compiled(made(Path(place), given.blocks, layout, multiple), apart, given.blocks if limit else 0)
        print(json.dumps(found))
        return
    import pages

    lines = ["| layout | shapes of blocks | graphs compiled | time, dense = 1 | largest difference |", "|---|---|---|---|---|"]
    whole = {}
    for at, (name, _, _, apart, _) in enumerate(ROWS):
        with tempfile.TemporaryDirectory() as cache:
            command = [sys.executable, __file__, "--blocks", str(given.blocks), "--one", str(at)]
            alone = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=alone)
        one = json.loads(done.stdout.splitlines()[-1])
        ratio = one["seconds"] / whole.setdefault(apart, one["seconds"])
        lines.append(f"| {name} | {one['widths']} | {one['graphs']} | {ratio:.1f} | {one['apart']:.0e} |")
        print(lines[-1], f"{one['seconds']:.0f} s", flush=True)
    pages.put(ROOT / "docs" / "compiling.md", compiling="\n".join(lines))


if __name__ == "__main__":
    main()
