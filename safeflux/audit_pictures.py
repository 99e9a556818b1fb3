"""Pictures that a publisher brings: labelled ones, photographs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from safeflux.errors import StageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image


def read(path: Path) -> NDArray[np.uint8]:
    """One picture as a batch, for sizes may differ: [1, H, W, 3]. Raises StageError if it is none."""
    with opened(path) as image:
        return np.asarray(image.convert("RGB"))[None]


@contextmanager
def opened(path: Path) -> Iterator[Image]:
    """A picture whose pixels are not read yet. Raises StageError if it is none, also where that shows only within."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            yield image
    except (OSError, UnidentifiedImageError) as error:
        raise StageError(f"{path} cannot be read as a picture: {error}") from error
