"""What looks at pictures for a metric: detectors, and networks that embed. Importable without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Detector(Protocol):
    """Says which pictures show what ``label`` names. ``labels`` is all it knows, None for any; ``digest`` pins its weights."""

    @property
    def name(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...] | None: ...

    @property
    def threshold(self) -> float: ...

    @property
    def digest(self) -> str: ...

    def __call__(self, images: NDArray[np.uint8], label: str) -> NDArray[np.bool_]:
        """Pictures [N, H, W, 3] to [N]."""
        ...


class Embedder(Protocol):
    """Pictures and texts as unit vectors [N, D] of one space; ``layers``: what its network makes of pictures on the way, [N, channels,
    places] each."""

    @property
    def name(self) -> str: ...

    def images(self, images: NDArray[np.uint8]) -> NDArray[np.float32]: ...

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]: ...

    def layers(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]: ...


@dataclass(frozen=True)
class Photographs:
    """Pictures from elsewhere as unit vectors [M, D], made when first asked for; ``told``: what a report says of them."""

    told: str
    embedded: Callable[[], NDArray[np.float32]]


@dataclass(frozen=True)
class Instruments:
    """What a metric may measure with; the embedder is loaded when first asked for. ``photographs``: of what general prompts ask for."""

    detect: Detector
    embed: Callable[[], Embedder]
    photographs: Photographs | None = None
