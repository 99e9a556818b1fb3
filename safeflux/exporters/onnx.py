"""Every network of the pipeline as an ONNX graph, in the directories that optimum's ``ORTFluxPipeline`` reads."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from diffusers import FluxPipeline
from torch import Tensor

from safeflux.errors import StageError
from safeflux.models.older_tokenizers import readable, readable_index
from safeflux.models.onnx_graphs import Graph, graphs
from safeflux.models.quiet import quiet
from safeflux.models.removed import transformer_class
from safeflux.types import Progress

if TYPE_CHECKING:
    import onnx_ir

FILE, WEIGHTS = "model.onnx", "model.onnx_data"
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-2}  # of the largest output, at shapes that it was not exported at
_COPIED = ("scheduler", "tokenizer", "tokenizer_2")
_CONFIGS = {"vae_decoder": "vae", "vae_encoder": "vae"}  # whose configuration a graph has, where it is not called the same


def onnx(
    baked: Path, out: Path, *, base: Path, progress: Progress | None = None, precision: Literal["fp32", "fp16"] = "fp32"
) -> list[Path]:
    """Write the pipeline to ``out`` as graphs with open batch, picture and text sizes: transformer from ``baked``, all else from ``base``.

    Weights lie beside each graph, in ``model.onnx_data``, so that none reaches protobuf's 2 GB; ``precision`` is theirs. Each graph is run
    with onnxruntime at two sizes it was not exported at, and held against torch. Stack traces, which hold paths of this machine, are taken
    out. FLUX.1's 57 blocks take many minutes, and memory for twice the model; ``progress`` is told each graph.

    Needs onnx, onnxscript and onnxruntime (``pip install "safeflux[onnx]"``, or ``onnx-gpu``). Raises StageError without them, or where
    a graph computes something else than the network it is of.
    """
    try:
        import onnx_ir  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise StageError(f'ONNX graphs are written with onnx, onnxscript and onnxruntime: {error}; pip install "safeflux[onnx]"') from error
    dtype = torch.float32 if precision == "fp32" else torch.float16
    with quiet():
        transformer = transformer_class(baked / "transformer").from_pretrained(baked / "transformer", dtype=dtype, use_safetensors=True)
        tuned = FluxPipeline.from_pretrained(base, dtype=dtype, use_safetensors=True, transformer=transformer)
    every = list(graphs(tuned))
    for done, graph in enumerate(every):
        if progress:
            progress(graph.name, done, len(every))
        folder = out / graph.name
        folder.mkdir()
        _write(graph, folder)
        _compare(graph, folder, dtype)
        source = baked if graph.name == "transformer" else base
        _configure(source / _CONFIGS.get(graph.name, graph.name) / "config.json", folder / "config.json", tuned.vae)
    shutil.copyfile(baked / "model_index.json", out / "model_index.json")
    for name in _COPIED:
        shutil.copytree(base / name, out / name)
        readable(out / name)
    readable_index(out / "model_index.json")
    return sorted(path for path in out.rglob("*") if path.is_file())


def _configure(source: Path, target: Path, vae: Any) -> None:
    """The configuration of the network; pipelines tell the scale of any autoencoder by the number of a field that some do not save."""
    if source.parent.name != "vae":
        shutil.copyfile(source, target)
        return
    told = json.loads(source.read_text(encoding="utf-8")) | {"block_out_channels": list(vae.config.block_out_channels)}
    target.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@torch.no_grad()
def _write(graph: Graph, folder: Path) -> None:
    import onnx_ir

    example = graph.inputs(0)
    known: dict[str, torch.export.Dim] = {}
    shapes = {
        name: {place: known.setdefault(axis, torch.export.Dim(axis)) for place, axis in enumerate(axes) if axis}
        for name, axes in graph.axes.items()
    }
    with _silent():
        program = torch.onnx.export(
            graph.module.eval(), kwargs=example, dynamo=True, input_names=list(example), output_names=list(graph.outputs),
            dynamic_shapes=shapes, verbose=False,
        )  # fmt: skip
    assert program is not None, "with dynamo=True it returns a program"
    _strip(program.model)
    onnx_ir.save(program.model, folder / FILE, external_data=WEIGHTS)


def _strip(model: onnx_ir.Model) -> None:
    """Take out what says how the graph came about: names of modules and stack traces, with paths of this machine."""
    model.metadata_props.clear()
    model.doc_string = None
    for graph in (model.graph, *model.functions.values()):
        graph.metadata_props.clear()
        graph.doc_string = None
        for value in (*graph.inputs, *graph.outputs, *getattr(graph, "initializers", {}).values()):
            value.metadata_props.clear()
        for node in graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()


@torch.no_grad()
def _compare(graph: Graph, folder: Path, dtype: torch.dtype) -> None:
    """Raise StageError unless the file computes what the network does, at sizes that it was not exported at."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / FILE), providers=["CPUExecutionProvider"])
    for size in (1, 2):
        inputs = graph.inputs(size)
        wanted = graph.module(**inputs)
        found = session.run(list(graph.outputs), {name: tensor.numpy() for name, tensor in inputs.items()})
        for name, one, numbers in zip(graph.outputs, wanted if isinstance(wanted, tuple) else (wanted,), found, strict=True):
            error = _apart(one, torch.from_numpy(numbers))
            if not error <= TOLERANCE[dtype]:
                raise StageError(f"the ONNX graph {graph.name} computes {name} otherwise than torch: off by {error:.1e} of the largest")


def _apart(wanted: Tensor, found: Tensor) -> float:
    return float((found.float() - wanted.float()).abs().max() / wanted.float().abs().max())


@contextmanager
def _silent() -> Iterator[None]:
    """torch's exporter prints, warns and logs what is of no use to whoever waits for it; its errors still raise."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
