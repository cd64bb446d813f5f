"""unCLIP: Stable Diffusion 2 networks that follow descriptions of pictures, roughened by noise.

Source: Ramesh et al. 2022, arXiv:2204.06125, section 2.1; the noise augmentation of Stability-AI/stablediffusion (MIT).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.models.vector import fourier

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor

    from engine.types import Cond

LEVELS = 1000
"""Noise levels of the augmentation."""

MERGED_LEVEL = 0.05
"""Share of noise that several descriptions together get once more."""

SEED_SHIFT = 10
"""How much lower the seed of this noise is than that of sampling."""

STATISTICS = ("noise_augmentor.data_mean", "noise_augmentor.data_std")
"""Tensors of a checkpoint: mean and standard deviation of descriptions, [D] each."""


@dataclass(frozen=True, eq=False)
class Described:
    """Makes the vector: the noised description of a picture, then how noisy it is. Without pictures it is zero.

    Attributes:
        width: D of the vector, twice that of a description.
        mean: [D / 2] of descriptions.
        deviation: [D / 2] of descriptions.
    """

    width: int
    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, marks: Mapping[str, Any], width: int) -> Described:
        """The maker of a network that reads a vector of `width`, by the statistics in its file; neutral without them."""
        import torch

        mean, deviation = (marks.get(name) for name in STATISTICS)
        half = width // 2
        return cls(
            width,
            torch.zeros(half) if mean is None else mean.float().reshape(half).cpu(),
            torch.ones(half) if deviation is None else deviation.float().reshape(half).cpu(),
        )

    def __call__(self, entry: Cond, *, height_px: int, width_px: int, is_negative: bool, seed: int) -> Tensor:  # noqa: ARG002 - see `Vector`
        """[1, D]; see `Vector`."""
        import torch

        lower = seed - SEED_SHIFT
        vectors: list[Tensor] = [
            self._noised(embeds[None].float(), augmentation, lower) * strength
            for description, strength, augmentation in entry.options.get("pictures", ())
            for embeds in description.embeds
        ]
        if not vectors:
            return torch.zeros(1, self.width)
        if len(vectors) == 1:
            return vectors[0]
        return self._noised(torch.stack(vectors).sum(dim=0)[:, : self.width // 2], MERGED_LEVEL, lower)

    def _noised(self, embeds: Tensor, share: float, seed: int) -> Tensor:
        """A description [1, D / 2] with noise, and its level."""
        import torch

        level = round((LEVELS - 1) * share)
        noise = torch.randn(embeds.shape, generator=torch.Generator().manual_seed(seed))
        kept = float(_signal()[level])
        plain = (embeds - self.mean) / self.deviation
        rough = (math.sqrt(kept) * plain + math.sqrt(1.0 - kept) * noise) * self.deviation + self.mean
        return torch.cat((rough, fourier(torch.tensor([float(level)]), embeds.shape[1])), dim=1)


@functools.lru_cache(maxsize=1)
def _signal() -> torch.Tensor:
    """[LEVELS] share of the signal's power that each level keeps.

    Source: Nichol and Dhariwal 2021, arXiv:2102.09672, eq. 17, betas at most 0.999.
    """
    import torch

    steps = torch.arange(LEVELS + 1, dtype=torch.float64) / LEVELS
    power = ((steps + 0.008) / 1.008 * (math.pi / 2)).cos().square()
    betas = (1 - power[1:] / power[:-1]).clamp(max=0.999)
    return torch.cumprod(1 - betas, dim=0)
