"""Operations on latents as values that travel on links: what a graph applies once, or a guider at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from engine.pictures.filters import sharpened

if TYPE_CHECKING:
    from torch import Tensor

TINY = 1e-6
"""Added to lengths that are divided by."""

SPREAD = 5.0
"""Standard deviations above the mean length that count as the brightest, at multiplier 1."""


@dataclass(frozen=True, slots=True)
class ReinhardTonemap:
    """Press great lengths of latent vectors together, so that strong guidance does not burn out.

    Attributes:
        multiplier: Of the length that nothing exceeds; small ones press harder.
    """

    multiplier: float

    def __call__(self, latent: Tensor) -> Tensor:
        """The latent with every length m replaced by m * top / (m + top), top = multiplier * (mean + 5 std).

        Args:
            latent: [B, C, ...]; mean and standard deviation are those of each sample.

        Source: Reinhard et al. 2002, "Photographic tone reproduction for digital images", eq. 3.
        """
        length: Tensor = torch.linalg.vector_norm(latent, dim=1, keepdim=True)
        axes = tuple(range(1, latent.ndim))
        top = self.multiplier * (length.mean(axes, keepdim=True) + SPREAD * length.std(axes, keepdim=True))
        share = top / (length + top)
        return latent * share.where(length + top > 0, 0.0)


@dataclass(frozen=True, slots=True)
class Sharpen:
    """Sharpen the directions of latent vectors, and keep their lengths before.

    Attributes:
        radius: Of the window, in latent cells.
        sigma: Its standard deviation, see `filters.blurred`.
        alpha: How much.
    """

    radius: int
    sigma: float
    alpha: float

    def __call__(self, latent: Tensor) -> Tensor:
        """The sharpened latent.

        Args:
            latent: [B, C, h, w] or [B, C, F, h, w], each frame for itself.

        Raises:
            ValueError: if it is not larger than the radius.
        """
        length: Tensor = torch.linalg.vector_norm(latent, dim=1, keepdim=True) + TINY
        directions = latent / length
        if latent.ndim == 4:
            return length * sharpened(directions, self.radius, self.sigma, self.alpha)
        frames = directions.movedim(2, 1)
        done = sharpened(frames.flatten(0, 1), self.radius, self.sigma, self.alpha)
        return length * done.reshape(frames.shape).movedim(1, 2)
