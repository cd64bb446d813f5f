"""Deep shrink: early steps see a smaller picture from some block on, so that large pictures keep one subject.

Source: kohya-ss, "Deep Shrink" of sd-scripts' `gen_img.py`, 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.media import resized
from engine.models.hooks import Hook

if TYPE_CHECKING:
    from torch import Tensor

    from engine.media import Method
    from engine.models.hooks import Place


@dataclass(frozen=True, slots=True)
class DeepShrink(Hook):
    """Shrinks what an input block gives, and grows it back where a larger skip joins it.

    Attributes:
        block: Number of the input block.
        factor: How many times smaller, along each side.
        first_sigma: Highest noise level at which it is active.
        last_sigma: Lowest noise level at which it is active.
        keeps_skip: Whether the skip of the block stays large.
        shrink: How values between cells are found when shrinking.
        grow: The same when growing back.
    """

    block: int
    factor: float
    first_sigma: float
    last_sigma: float
    keeps_skip: bool
    shrink: Method
    grow: Method

    def is_active(self, sigma: float) -> bool:
        """Whether `sigma` is in its range."""
        return self.last_sigma <= sigma <= self.first_sigma

    def after_input(self, h: Tensor, at: Place) -> Tensor:
        """Smaller maps after the block, where the skip is to be small too."""
        return h if self.keeps_skip else self._shrunk(h, at)

    def after_skip(self, h: Tensor, at: Place) -> Tensor:
        """Smaller maps after the block, where the skip stays large."""
        return self._shrunk(h, at) if self.keeps_skip else h

    def before_output(self, h: Tensor, skip: Tensor, at: Place) -> tuple[Tensor, Tensor]:  # noqa: ARG002 - sizes tell
        """Maps as large as the skip that joins them."""
        if h.shape[-2] == skip.shape[-2]:
            return h, skip
        return resized(h, skip.shape[-1], skip.shape[-2], self.grow), skip

    def _shrunk(self, h: Tensor, at: Place) -> Tensor:
        if at.block != self.block:
            return h
        width, height = (max(round(side * (1.0 / self.factor)), 1) for side in (h.shape[-1], h.shape[-2]))
        return resized(h, width, height, self.shrink)
