"""Load a release only after it has been verified."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeflux.errors import TrustError
from safeflux_signing import keys
from safeflux_signing.errors import SigningError
from safeflux_signing.verify import verify

if TYPE_CHECKING:
    from diffusers import FluxPipeline

log = logging.getLogger(__name__)


def load(directory: Path | str, *, trust: Path | str | Sequence[Path | str], **options: Any) -> FluxPipeline:
    """The pipeline in ``directory``, if it is what the owner of one of the public keys ``trust`` (PEM files) signed.

    ``options`` go to ``FluxPipeline.from_pretrained``. Only safetensors are read, no code from the directory is run, and
    nothing is looked up on the network. Verification ends before loading begins: the directory must not be one that
    somebody else can write to meanwhile.

    Raises TrustError, before any weight is read, with everything that is wrong and what to do about it.
    """
    directory = Path(directory)
    paths = [trust] if isinstance(trust, Path | str) else list(trust)
    try:
        verified = verify(directory, [keys.load_public(Path(path)) for path in paths])
    except SigningError as error:
        said = "\n".join(f"  {finding}\n      {finding.remedy}" for finding in error.findings)
        raise TrustError(f"{directory} is not to be trusted and was not loaded:\n{said}") from error
    log.info("%s is what %s signed", directory, verified.key_id)
    from diffusers import FluxPipeline

    pipeline: FluxPipeline = FluxPipeline.from_pretrained(directory, use_safetensors=True, local_files_only=True, **options)
    return pipeline
