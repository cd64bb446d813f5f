"""Vectors that networks read beside their tokens: pooled text, sizes, scores."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from engine.errors import WeftError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from engine.types import Cond

SIZE_WIDTH = 256
"""Numbers that stand for one size."""

AESTHETIC_SCORE, POOR_SCORE = 6.0, 2.5
"""Of the picture that is wanted, and of what is not."""


class Vector(Protocol):
    """Makes the vector of a family."""

    def __call__(self, entry: Cond, *, height_px: int, width_px: int, is_negative: bool, seed: int) -> Tensor:
        """The vector for one conditioning entry.

        Args:
            entry: Its pooled output and options.
            height_px: Of the picture that is sampled.
            width_px: Of the picture that is sampled.
            is_negative: Whether the entry says what to move away from.
            seed: Of sampling, for families whose vector is noised.

        Returns:
            [B, D] float32 on the CPU, a row for each row of the entry.

        Raises:
            WeftError: if the entry lacks what the family needs.
        """


def sized(entry: Cond, *, height_px: int, width_px: int, is_negative: bool, seed: int) -> Tensor:  # noqa: ARG001 - see `Vector`
    """SDXL: pooled text, then height, width, top and left of the crop, height and width of the target.

    Source: Podell et al. 2023, arXiv:2307.01952, section 2.2.
    """
    options = entry.options
    height, width = options.get("height", height_px), options.get("width", width_px)
    crop = (options.get("crop_h", 0), options.get("crop_w", 0))
    target = (options.get("target_height", height), options.get("target_width", width))
    return _joined(entry, (height, width, *crop, *target))


def scored(entry: Cond, *, height_px: int, width_px: int, is_negative: bool, seed: int) -> Tensor:  # noqa: ARG001 - as above
    """The refiner of SDXL: pooled text, then height, width, top and left of the crop, aesthetic score.

    Source: Podell et al. 2023, arXiv:2307.01952, section 2.5; the score is that of the published refiner.
    """
    options = entry.options
    height, width = options.get("height", height_px), options.get("width", width_px)
    crop = (options.get("crop_h", 0), options.get("crop_w", 0))
    score = options.get("aesthetic_score", POOR_SCORE if is_negative else AESTHETIC_SCORE)
    return _joined(entry, (height, width, *crop, score))


def _joined(entry: Cond, numbers: Sequence[float]) -> Tensor:
    import torch

    if entry.pooled is None:
        msg = "cannot sample with this conditioning: the model reads a pooled text, and the conditioning has none"
        raise WeftError(msg)
    told = fourier(torch.tensor(numbers, dtype=torch.float32)).reshape(1, -1)
    pooled = entry.pooled.float()
    return torch.cat((pooled, told.expand(pooled.shape[0], -1)), dim=1)


def fourier(numbers: Tensor, width: int = SIZE_WIDTH) -> Tensor:
    """Cosines, then sines, of [N] numbers at frequencies from 1 down to nearly 1 / 10000: [N, width] float32.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5, cosines first.
    """
    import torch

    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * (-math.log(10000) / half))
    angles = numbers[:, None].float() * frequencies[None]
    return torch.cat((angles.cos(), angles.sin()), dim=1)
