"""How fast a release is verified, beside plain hashing, sha256sum and the reference verifier; and how fast the command starts.

    python bench/verify.py --gb 4 --runs 5

All contenders see the same files, one after the other, round by round, so that what else the machine does falls on all of them.
The files stay in the page cache if they fit: a cold disk is not measured. Set SAFEFLUX_STOCK_SIGNING to a Python that has
model-signing to measure that too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from safeflux_signing import keys
from safeflux_signing.sign import sign
from safeflux_signing.tree import cores
from safeflux_signing.verify import verify

SHARES = {  # of all bytes, roughly as in a FLUX.1 directory
    "transformer/diffusion_pytorch_model-00001-of-00003.safetensors": 0.295,
    "transformer/diffusion_pytorch_model-00002-of-00003.safetensors": 0.294,
    "transformer/diffusion_pytorch_model-00003-of-00003.safetensors": 0.115,
    "text_encoder_2/model-00001-of-00002.safetensors": 0.148,
    "text_encoder_2/model-00002-of-00002.safetensors": 0.134,
    "text_encoder/model.safetensors": 0.009,
    "vae/diffusion_pytorch_model.safetensors": 0.005,
}
SMALL = ("model_index.json", "transformer/config.json", "tokenizer/vocab.json", "scheduler/scheduler_config.json")
CHUNK = 1 << 22
STOCK = os.environ.get("SAFEFLUX_STOCK_SIGNING")


@dataclass(frozen=True)
class Timing:
    """Seconds on the clock, and seconds of processor time over all threads and processes."""

    wall: float
    cpu: float


def make(directory: Path, gigabytes: float) -> None:
    """Files of random bytes, safetensors by name and header, 10**9 bytes to the gigabyte."""
    for name in SMALL:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("{}\n")
    for name, share in SHARES.items():
        size = int(share * gigabytes * 1e9)
        header = json.dumps({"weights": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        with (directory / name).open("wb") as stream:
            stream.write(len(header).to_bytes(8, "little") + header)
            for start in range(0, size, CHUNK):
                stream.write(os.urandom(min(CHUNK, size - start)))


def raw(files: Sequence[Path]) -> None:
    """SHA-256 of every file, and nothing else: as many threads as cores, the largest file first."""

    def one(file: Path) -> str:
        digest, buffer = hashlib.sha256(), bytearray(CHUNK)
        with file.open("rb", buffering=0) as stream:
            while got := stream.readinto(buffer):
                digest.update(memoryview(buffer)[:got])
        return digest.hexdigest()

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(one, sorted(files, key=lambda file: -file.stat().st_size)))


def program(*command: str | Path) -> Callable[[], None]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONWARNINGS", "PYTHONPATH")}
    if command[0] == sys.executable:
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)

    def run() -> None:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")

    return run


def timed(work: Callable[[], object]) -> Timing:
    def cpu() -> float:
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in both)

    wall, spent = time.perf_counter(), cpu()
    work()
    return Timing(time.perf_counter() - wall, cpu() - spent)


def side_by_side(contenders: dict[str, Callable[[], object]], runs: int) -> dict[str, list[Timing]]:
    """One untimed round, then ``runs`` rounds, in each of which every contender runs once."""
    found: dict[str, list[Timing]] = {name: [] for name in contenders}
    for round_number in range(runs + 1):
        for name, work in contenders.items():
            timing = timed(work)
            if round_number:
                found[name].append(timing)
    return found


def table(found: dict[str, list[Timing]], gigabytes: float | None) -> str:
    """Medians over runs, beside the first contender's. ``gigabytes`` None leaves the rates out."""
    first = median(timing.wall for timing in next(iter(found.values())))
    lines = ["| what | s | s of processor | GB/s | times as long |", "|---|---|---|---|---|"]
    for name, timings in found.items():
        wall, cpu = median(timing.wall for timing in timings), median(timing.cpu for timing in timings)
        rate = f"{gigabytes / wall:.2f}" if gigabytes else ""
        lines.append(f"| {name} | {wall:.3f} | {cpu:.3f} | {rate} | {wall / first:.2f} |")
    return "\n".join(lines)


def contenders(directory: Path, public: Path) -> dict[str, Callable[[], object]]:
    files = [path for path in directory.rglob("*") if path.is_file() and path.name not in ("model.sig", "claims.jsonl")]
    trusted = [keys.load_public(public)]
    found: dict[str, Callable[[], object]] = {
        f"hashlib SHA-256, {cores()} threads": lambda: raw(files),
        "safeflux_signing.verify": lambda: verify(directory, trusted),
        "safeflux verify": program(*command(directory, public)),
    }
    if shutil.which("sha256sum"):
        found["sha256sum"] = program("sha256sum", *files)
    if STOCK:
        options = ("--signature", directory / "model.sig", "--public_key", public)
        found["model_signing verify"] = program(STOCK, "-m", "model_signing", "verify", "key", directory, *options)
    return found


def command(directory: Path, public: Path) -> tuple[str | Path, ...]:
    return (sys.executable, "-m", "safeflux_cli.main", "verify", directory, "--key", public)


def signed(place: Path, gigabytes: float) -> tuple[Path, Path]:
    """A release with as many bytes, and the public key of who signed it."""
    directory = place / "release"
    make(directory, gigabytes)
    public = keys.new(place / "bench.key", None)
    sign(directory, keys.load_private(place / "bench.key"), release_id="bench", sequence=1)
    return directory, public


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast a release is verified.")
    parser.add_argument("--gb", type=float, default=4.0, help="size of the release in 10**9 bytes (default: 4)")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each contender (default: 5)")
    parser.add_argument("--scratch", type=Path, help="where to make it (default: the system's temporary directory)")
    arguments = parser.parse_args()
    print(
        f"{platform.machine()}, {cores()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}, {arguments.runs} runs\n"
    )
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as place:
        big = side_by_side(contenders(*signed(Path(place), arguments.gb)), arguments.runs)
    print(f"A release of {arguments.gb:g} GB, files in the page cache if they fit:\n\n{table(big, arguments.gb)}\n")
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as place:
        both = {"python -c pass": program(sys.executable, "-c", "pass"), "safeflux verify": program(*command(*signed(Path(place), 0)))}
        small = side_by_side(both, max(arguments.runs, 5))
    print(f"A release of a few bytes:\n\n{table(small, None)}")


if __name__ == "__main__":
    main()
