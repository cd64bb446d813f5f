"""FreeU: a network whose skips carry fewer low frequencies, and whose deep features count for more.

Source: Si et al. 2023, arXiv:2309.11497, eqs. 3 to 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from engine.models.hooks import Hook

if TYPE_CHECKING:
    from torch import Tensor

    from engine.models.hooks import Place

LOW = 1
"""Frequencies nearer to zero than this, along either axis, count as low; in cycles over the map."""


@dataclass(frozen=True, slots=True)
class FreeU(Hook):
    """Scales half of the deep features, and the low frequencies of the skips, at the two deepest widths.

    Attributes:
        width: C of the network's first level.
        backbone: Factors of the features where they are 4 and 2 times `width` wide.
        skip: Factors of the low frequencies there.
        by_structure: Whether the factor of the features follows their mean over channels, as in the later version:
            largest where it is largest, and 1 where it is smallest.
    """

    width: int
    backbone: tuple[float, float]
    skip: tuple[float, float]
    by_structure: bool = False

    def before_output(self, h: Tensor, skip: Tensor, at: Place) -> tuple[Tensor, Tensor]:  # noqa: ARG002 - widths tell
        """Scaled features and skip, where they are as wide as a chosen level."""
        for multiple, backbone, low in zip((4, 2), self.backbone, self.skip, strict=True):
            if h.shape[1] == multiple * self.width:
                return self._scaled(h, backbone), low_scaled(skip, low)
        return h, skip

    def _scaled(self, h: Tensor, factor: float) -> Tensor:
        half = h.shape[1] // 2
        scale: float | Tensor = factor
        if self.by_structure:
            mean = h.mean(1, keepdim=True)
            low, high = mean.amin((1, 2, 3), keepdim=True), mean.amax((1, 2, 3), keepdim=True)
            scale = (factor - 1) * ((mean - low) / (high - low)) + 1
        return torch.cat((h[:, :half] * scale, h[:, half:]), dim=1)


def low_scaled(x: Tensor, factor: float) -> Tensor:
    """Maps [R, C, h, w] with their low frequencies scaled by `factor`; same format."""
    spectrum = torch.fft.fftshift(torch.fft.fftn(x.float(), dim=(-2, -1)), dim=(-2, -1))
    down, across = x.shape[-2] // 2, x.shape[-1] // 2
    scale = torch.ones(x.shape[-2:], device=x.device)
    scale[max(down - LOW, 0) : down + LOW, max(across - LOW, 0) : across + LOW] = factor
    spectrum = torch.fft.ifftshift(spectrum * scale, dim=(-2, -1))
    filtered: Tensor = torch.fft.ifftn(spectrum, dim=(-2, -1)).real
    return filtered.to(x.dtype)
