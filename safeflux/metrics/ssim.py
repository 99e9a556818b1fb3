"""SSIM (Wang, Bovik, Sheikh & Simoncelli, IEEE TIP 13, 2004) between the two models' pictures from the same noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from safeflux.instruments import Instruments
from safeflux.metrics.pairs import matched
from safeflux.statistics import mean_interval
from safeflux.types import Sample, Score

WINDOW, SIGMA = 11, 1.5  # pixels; this and the constants below are the paper's
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(samples: Sequence[Sample], base: Sequence[Sample], instruments: Instruments) -> Score:
    """Mean over pairs, 1 for equal pictures. Raises ValueError for fewer than two pairs, or for pictures without a partner."""
    images, partners = matched(samples, base)
    values = [similarity(a, b) for a, b in zip(images, partners, strict=True)]
    mean, low, high = mean_interval(values)
    return Score(len(values), mean, low, high)


def similarity(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """SSIM of two pictures [H, W, 3] on luminance, averaged over all windows that lie wholly inside; both sides at least 11."""
    if min(a.shape[:2]) < WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {WINDOW} x {WINDOW} pixels; got {a.shape[1]} x {a.shape[0]}")
    x, y = _luminance(a), _luminance(b)
    mx, my, xx, yy, xy = _blur(torch.stack([x, y, x * x, y * y, x * y]))
    vx, vy, cov = xx - mx * mx, yy - my * my, xy - mx * my
    index = ((2 * mx * my + _C1) * (2 * cov + _C2)) / ((mx * mx + my * my + _C1) * (vx + vy + _C2))
    return float(index.mean())


def _luminance(image: NDArray[np.uint8]) -> Tensor:
    """[H, W, 3] to [H, W], 0..255, by ITU-R BT.601."""
    return torch.from_numpy(np.array(image)).double() @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)


def _blur(planes: Tensor) -> Tensor:
    """Gaussian means of planes [B, H, W] over windows of 11 x 11: [B, H - 10, W - 10]."""
    at = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-(at**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()
    rows = F.conv2d(planes[:, None], weights[None, None, :, None])
    return F.conv2d(rows, weights[None, None, None, :])[:, 0]
