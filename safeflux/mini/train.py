"""Make the embedded FLUX from nothing: ``python -m safeflux.mini.train``.

Stages, each kept in the work directory when it is done and not done again: tokenizers, latent code, decoder, encoder,
drawn and encoded scenes, transformer with its text towers, judge, checker, embedder. The transformer's training goes on
from its last checkpoint. What is shipped was made by these stages; the model's card has the numbers.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from diffusers import AutoencoderTiny
from safetensors.torch import save_file
from transformers import CLIPTokenizer

from safeflux.mini import assemble, autoencoder, detector, embedder, flux, text
from safeflux_signing.tree import cores

HERE = Path(__file__).parent
_CPU = torch.device("cpu")
SCENES = 40_000


@dataclass(frozen=True)
class Recipe:
    """How long everything is trained. ``QUICK`` only shows that all of it runs."""

    decoder: int = 2200
    encoder: int = 500
    flux: int = 3100
    cooldown: int = 950
    judge: int = 900
    checker: int = 1500
    embedder: int = 600
    scenes: int = SCENES
    sentences: int = 6000
    batch: int = 96


QUICK = Recipe(2, 2, 2, 1, 2, 2, 2, 64, 400, 8)
FULL = Recipe()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m safeflux.mini.train", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--work", type=Path, default=Path("runs/flux-mini"), help="where finished stages are kept (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE, help="where model/ and detectors/ go (default: the package itself)")
    parser.add_argument("--workers", type=int, default=cores(), help="processes (default: one a core)")
    parser.add_argument("--device", default="cpu", help="where networks learn: cpu, or cuda with one worker (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a few updates of everything, to see that it runs")
    chosen = parser.parse_args(arguments)
    device = torch.device(chosen.device)
    make(chosen.work, chosen.out, QUICK if chosen.quick else FULL, chosen.workers if device.type == "cpu" else 1, device)


def make(work: Path, out: Path, recipe: Recipe, workers: int, device: torch.device = _CPU) -> None:
    """Run all stages; ``out/model`` and ``out/detectors`` are written last. Several ``workers`` share a CPU, never a GPU."""
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(workers)
    root = work / "text"
    if not (root / "tokenizer_2").is_dir():
        sentences = text.corpus(recipe.sentences, seed=0)
        text.write_clip_tokenizer(sentences, root / "tokenizer")
        text.write_t5_tokenizer(sentences, root / "tokenizer_2")
    code = autoencoder.Code.fit(min(1500, recipe.scenes), seed=1).to(device)
    vae = _autoencoder(work / "vae", code, recipe)
    _flux(work, code, recipe, workers, device)
    _detectors(work / "detectors", code, vae, CLIPTokenizer.from_pretrained(root / "tokenizer"), recipe)
    trainee = _trainee(root)
    for module, weights in zip(
        trainee.modules(), torch.load(work / "flux.pt", weights_only=True, map_location="cpu")["models"], strict=True
    ):
        module.load_state_dict(weights)
    assemble.assemble(trainee, vae.cpu(), out / "model")
    shutil.copytree(work / "detectors", out / "detectors", dirs_exist_ok=True)


def _autoencoder(path: Path, code: autoencoder.Code, recipe: Recipe) -> AutoencoderTiny:
    if not (path / "config.json").is_file():
        torch.manual_seed(1)
        vae = autoencoder.build().to(code.mean.device)
        with ticking("decoder", recipe.decoder) as tick:
            autoencoder.train_decoder(vae, code, steps=recipe.decoder, batch=12, seed=1, tick=tick)
        with ticking("encoder", recipe.encoder) as tick:
            autoencoder.train_encoder(vae, code, steps=recipe.encoder, batch=12, seed=2, tick=tick)
        vae.to(memory_format=torch.contiguous_format).save_pretrained(path)
    return AutoencoderTiny.from_pretrained(path).eval().to(code.mean.device)


def _trainee(root: Path, device: torch.device = _CPU) -> flux.Trainee:
    torch.manual_seed(0)
    clip, t5 = text.build_towers(root)
    return flux.Trainee(flux.build().to(device), clip.to(device), t5.to(device), root)


def _flux(work: Path, code: autoencoder.Code, recipe: Recipe, workers: int, device: torch.device) -> None:
    """Train in ``workers`` processes of one thread each, which use two cores far better than one process of two threads."""
    if (work / "flux.done").is_file():
        return
    with ticking("scenes", recipe.scenes) as tick:
        world = flux.World.draw(recipe.scenes, 11, code, lambda i: tick(i, 0.0))
    (work / "rendezvous").unlink(missing_ok=True)
    if workers == 1:
        _worker(0, work, world, recipe, 1, device)
    else:
        mp.spawn(_worker, (work, world, recipe, workers, device), nprocs=workers)  # type: ignore[no-untyped-call, attr-defined]
    (work / "flux.done").touch()


def _worker(rank: int, work: Path, world: flux.World, recipe: Recipe, workers: int, device: torch.device) -> None:
    torch.set_num_threads(1)
    if workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{(work / 'rendezvous').resolve()}", rank=rank, world_size=workers)
    trainee = _trainee(work / "text", device)
    with ticking("transformer", recipe.flux, silent=rank > 0) as tick:
        flux.train(
            trainee, world, steps=recipe.flux, cooldown=recipe.cooldown, batch=recipe.batch, seed=0, checkpoint=work / "flux.pt",
            rank=rank, workers=workers, tick=tick,
        )  # fmt: skip
    if workers > 1:
        dist.destroy_process_group()


def _detectors(path: Path, code: autoencoder.Code, vae: AutoencoderTiny, tokenizer: CLIPTokenizer, recipe: Recipe) -> None:
    path.mkdir(exist_ok=True)
    kinds: tuple[tuple[detector.Which, int, int], ...] = (("judge", recipe.judge, 3), ("checker", recipe.checker, 5))
    for which, steps, seed in kinds:
        if not (path / f"{which}.safetensors").is_file():
            with ticking(which, steps) as tick:
                model = detector.train(which, code, vae, steps=steps, batch=64, seed=seed, tick=tick)
            save_file(model.cpu().state_dict(), path / f"{which}.safetensors")
    if not (path / "embedder.safetensors").is_file():
        with ticking("embedder", recipe.embedder) as tick:
            towers = embedder.train(code, vae, tokenizer, steps=recipe.embedder, batch=96, seed=9, tick=tick)
        save_file(towers.cpu().state_dict(), path / "embedder.safetensors")


@contextmanager
def ticking(what: str, total: int, *, silent: bool = False) -> Iterator[Callable[[int, float], None]]:
    """A progress line on standard error: what, how far, loss (a running mean), time left."""
    started, mean, shown = time.monotonic(), 0.0, 0.0

    def tick(step: int, loss: float) -> None:
        nonlocal mean, shown
        mean = loss if step == 0 else 0.98 * mean + 0.02 * loss
        now = time.monotonic()
        if silent or now - shown < (0.5 if sys.stderr.isatty() else 30):
            return
        shown = now
        left = (now - started) / (step + 1) * (total - step - 1)
        end = "\r" if sys.stderr.isatty() else "\n"
        sys.stderr.write(f"{what}: {step + 1}/{total}, loss {mean:.4f}, {left / 60:.1f} min left   {end}")
        sys.stderr.flush()

    yield tick
    if not silent:
        sys.stderr.write(f"{what}: done in {(time.monotonic() - started) / 60:.1f} min                    \n")


if __name__ == "__main__":
    main()
