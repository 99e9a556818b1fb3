"""Load a release: exactly the bytes that were verified, and nothing else."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from safeflux.errors import TrustError
from safeflux.private import Private
from safeflux.shards import Shard, Shards, listed
from safeflux.verify import shipped, sources, verify
from safeflux_signing import copies, keys, tree, trustfile
from safeflux_signing.errors import SigningError
from safeflux_signing.manifest import Entry
from safeflux_signing.trust import TrustStore, bare

if TYPE_CHECKING:
    from diffusers import FluxPipeline

log = logging.getLogger(__name__)

WEIGHTS = ".safetensors"
SMALL = (".json", ".txt", ".model", ".jinja")  # configurations and tokenizers; no code, no pickle, no picture is looked at
MAX_SMALL = 64 << 20  # bytes

_patching = threading.Lock()


def load(directory: Path | str, *, trust: TrustStore | Path | str | Sequence[Path | str], **options: Any) -> FluxPipeline:
    """The pipeline in ``directory``, if it is what the owner of one of the public keys ``trust`` (PEM files) signed.

    ``trust`` may also be a trust file (``.toml``), or what was read from one. What lies in ``directory`` itself is never trusted.

    ``options`` go to ``FluxPipeline.from_pretrained``. Only safetensors are read, no code from the directory is run, and
    nothing is looked up on the network. Whoever writes to the directory meanwhile or afterwards can make loading fail,
    but cannot change what is loaded: diffusers never sees the directory. It is given a private one, with copies of
    the small files, and when it opens a file of weights, that file is copied to sealed memory, hashed there, and opened
    from there (see ``safeflux_signing.copies``). So every byte is hashed twice, before the first weight is read and as it is loaded.
    Where the system has no such memory, as macOS has none, a file is hashed when it is opened, and each tensor again, in memory of
    its own, when it is read (see ``weights.py``). There is no third way: where neither is to be had, as on Windows, nothing is verified.

    The small files are read by their paths, from the private directory, which another program of the same user can write to. So whatever
    was changed, exchanged or added there while the model was loaded, also what was put back before the end, makes loading fail. What
    remains: who can rename a directory above that of temporary files (``TMPDIR``; nobody but root can where that is /tmp) can put
    another in its place meanwhile; a file system that keeps no exact times shows no change that was taken back; and what tokenizers
    copy from there when the pipeline is saved later is not checked again. Root, and a program that may write to this process's
    memory, as one of the same user often may (ptrace), are not guarded against at all.

    Memory: that of the pipeline and one such copy, of a whole file or of one shard. A copy ends when the library lets go of the file:
    diffusers opens one shard of a model after the other, and transformers, which would open all of them, is made to (see
    ``shards.py``). Weights that are neither converted nor moved to another device stay where they are, so there the copy is the model;
    those of transformers' shards never do. Making all copies beforehand would have been simpler, and would have doubled the memory
    that a model of which each weight is converted takes. Without sealed memory, what is held beside the pipeline is what the library
    has asked for and not yet converted: of transformers one tensor to a thread, of diffusers again one file or shard.
    Layers offloaded to the disk (``device_map``) cannot be served this way, and fail.

    Raises TrustError with everything that is wrong and what to do about it; before any weight is read, except when a file
    is changed after it had been checked.
    """
    directory = Path(directory)
    try:
        with tree.opened(directory) as root:
            verified = verify(directory, _store(directory, trust))
            log.info("%s is what %s signed", directory, verified.key_id)
            return _pipeline(root, verified.entries, options)
    except SigningError as error:
        said = "\n".join(f"  {finding}\n      {finding.remedy}" for finding in error.findings)
        raise TrustError(f"{directory} is not to be trusted and was not loaded:\n{said}") from error


def _store(directory: Path, trust: TrustStore | Path | str | Sequence[Path | str]) -> TrustStore:
    """Whom ``trust`` names. Raises TrustError for what lies in ``directory``, and what reading keys and trust files raises."""
    paths: list[Path] = []
    if isinstance(trust, TrustStore):
        store = trust
    else:
        paths = [Path(trust)] if isinstance(trust, Path | str) else [Path(path) for path in trust]
        single = len(paths) == 1 and paths[0].suffix == ".toml"
        store = trustfile.read(paths[0]) if single else bare(keys.load_public(path) for path in paths)
    if wrong := shipped(directory, [*paths, *sources(store)]):
        raise TrustError(f"{directory} was not loaded: {wrong}")
    return store


def _pipeline(root: int, entries: Sequence[Entry], options: Mapping[str, Any]) -> FluxPipeline:
    from diffusers import FluxPipeline

    private = Private()
    place = str(private.path)
    try:
        weights = {}
        for entry in entries:
            suffix = PurePosixPath(entry.name).suffix
            if suffix in (WEIGHTS, *SMALL):
                # Of weights only the name: whatever opens the file past us finds nothing.
                path = private.add(entry.name, b"" if suffix == WEIGHTS else copies.content(root, entry, MAX_SMALL))
                weights[str(path)] = entry
        with _weights_from(root, weights), private.untouched():
            pipeline: FluxPipeline = FluxPipeline.from_pretrained(place, use_safetensors=True, local_files_only=True, **options)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    # Tokenizers may look at their files again when they are saved.
    weakref.finalize(pipeline, shutil.rmtree, place, ignore_errors=True)
    return pipeline


class _Opening:
    """What stands in for ``safe_open``: of a path in ``weights`` it opens a private copy of the entry's file below ``root``, or what reads
    it tensor by tensor; of any other the file itself. ``refused`` notes every error, for those who call it turn it into one that speaks
    of a missing file."""

    def __init__(self, root: int, weights: Mapping[str, Entry], real: Callable[..., Any]) -> None:
        self.root, self.weights, self.real = root, weights, real
        self.refused: list[Exception] = []
        self.shards = Shards(self.refused)

    def one(self, filename: str | os.PathLike[str], *arguments: Any, **named: Any) -> Any:
        if (entry := self.weights.get(os.fspath(filename))) is None:
            return self.real(filename, *arguments, **named)
        self.shards.close()
        try:
            return self._open(entry, *arguments, **named)
        except SigningError as error:
            self.refused.append(error)
            raise

    def shard(self, filename: str | os.PathLike[str], *arguments: Any, **named: Any) -> Any:
        """The same for a library that opens all shards at once: what it gets for one opens it when it is read."""
        entry = self.weights.get(os.fspath(filename))
        if entry is None or (names := listed(Path(filename))) is None:
            return self.one(filename, *arguments, **named)
        return Shard(self.shards, entry.name, names, lambda: self._open(entry, *arguments, **named), lasting=not copies.can_seal())

    def _open(self, entry: Entry, *arguments: Any, **named: Any) -> Any:
        if copies.can_seal():
            with copies.sealed(self.root, entry) as path:
                return self.real(path, *arguments, **named)
        from safeflux.weights import Weights

        return Weights(copies.Pieces(self.root, entry), entry.name, self.refused, *arguments, **named)


@contextmanager
def _weights_from(root: int, weights: Mapping[str, Entry]) -> Iterator[None]:
    """Within the context, ``safe_open`` of a path in ``weights`` opens the entry's file below ``root``, with the content that was signed.

    Neither library takes anything but paths, so the one function is replaced through which both open safetensors. For all other
    paths it does what it did, so other threads may load other models meanwhile. A name of it that is not
    known here opens an empty file, which is an error.
    """
    import safetensors
    import safetensors.torch
    import transformers.modeling_utils

    real = safetensors.safe_open
    opening = _Opening(root, weights, real)
    places: dict[Any, Any] = {
        safetensors: opening.one, safetensors.torch: opening.one, transformers.modeling_utils: opening.shard,
    }  # fmt: skip
    with _patching:
        try:
            for place, function in places.items():
                place.safe_open = function
            yield
        except Exception:
            if not opening.refused:
                raise
        finally:
            for place in places:
                place.safe_open = real
            opening.shards.close(for_good=True)
    if opening.refused:
        raise opening.refused[0]
