"""Guidance by worse answers: what the network says when its attention is disturbed, or its input blurred, to move away from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from engine.models.hooks import Hook

if TYPE_CHECKING:
    from torch import Tensor

    from engine.models.hooks import Place
    from engine.sampling.guidance import Passes
    from engine.sampling.rules import Moment

KERNEL = 9
"""Cells that a blur reaches over, along each side."""

ATTENDED = 1.0
"""A cell counts as attended where the shares of attention that it gets add up to more than this; 1 is the average."""

SMALLEST = 5
"""Cells along the shorter side of a latent from which on it can be blurred: the border is filled by reflection."""


@dataclass(frozen=True, slots=True)
class Identity(Hook):
    """Self-attention in the middle where every token attends to itself alone."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, heads: int, at: Place) -> Tensor | None:  # noqa: ARG002 - v alone counts
        """The values as they are."""
        return v if (at.side, at.attention) == ("middle", "self") else None


@dataclass(frozen=True, slots=True)
class PerturbedAttention:
    """A rule: away from the answer whose self-attention in the middle is the identity.

    D + (D_c - D_perturbed) * scale.

    Attributes:
        scale: How far.

    Source: Ahn et al. 2024, arXiv:2403.17377, eq. 14.
    """

    scale: float

    def __call__(self, moment: Moment) -> Passes:
        """The latent moved on; asks the network once more."""
        if self.scale == 0:
            return moment.denoised
        perturbed = yield from moment.positive(hooks=(Identity(),))
        return moment.denoised + (moment.cond - perturbed) * self.scale


@dataclass(frozen=True, slots=True, eq=False)
class Attended(Hook):
    """Keeps how much attention each cell in the middle gets.

    Attributes:
        maps: Is given one map [R, h', w'] for each pass.
    """

    maps: list[Tensor] = field(default_factory=list)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, heads: int, at: Place) -> Tensor | None:
        """Attention as usual."""
        if (at.side, at.attention, at.transformer) != ("middle", "self", 0):
            return None
        rows, _, width = q.shape
        q, k, v = (part.view(rows, -1, heads, width // heads).transpose(1, 2) for part in (q, k, v))
        shares = (q @ k.transpose(-1, -2) * (width // heads) ** -0.5).softmax(dim=-1)
        self.maps.append(shares.float().mean(1).sum(1).reshape(rows, *at.cells))
        out: Tensor = (shares @ v).transpose(1, 2).reshape(rows, -1, width)
        return out


@dataclass(frozen=True, slots=True)
class SelfAttention:
    """A rule: away from the answer to a latent that is blurred where the network attends most.

    With D_u the answer to the negative conditioning and D_b the same blurred where the middle attends to it: x + D_b - D_u
    is asked about, and D + (D_b - D_s) * scale is the result, D_s being the answer.

    Attributes:
        scale: How far.
        blur: Standard deviation of the blur, in latent cells.

    Source: Hong et al. 2022, arXiv:2210.00939, section 4.
    """

    scale: float
    blur: float

    def __call__(self, moment: Moment) -> Passes:
        """The latent moved on; asks the network twice more, for where it attends and about the blurred latent."""
        if self.scale == 0 or min(moment.x.shape[-2:]) < SMALLEST:
            return moment.denoised
        attended = Attended()
        uncond = yield from moment.negative(hooks=(attended,))
        where = (attended.maps[-1] > ATTENDED).to(uncond)[:, None]
        where = torch.nn.functional.interpolate(where, uncond.shape[-2:])
        degraded = blurred(uncond, self.blur) * where + uncond * (1 - where)
        answer = yield from moment.negative(moment.x + degraded - uncond)
        return moment.denoised + (degraded - answer) * self.scale


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Latents [B, C, h, w] after a Gaussian blur of standard deviation `sigma` cells, cut off after 4 cells."""
    if sigma == 0:
        return x
    reach = KERNEL // 2
    steps = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    weights = torch.exp(-0.5 * (steps / sigma) ** 2)
    weights = weights / weights.sum()
    channels = x.shape[1]
    padded = torch.nn.functional.pad(x, [reach] * 4, mode="reflect")
    down = torch.nn.functional.conv2d(padded, weights.view(1, 1, -1, 1).expand(channels, -1, -1, -1), groups=channels)
    return torch.nn.functional.conv2d(down, weights.view(1, 1, 1, -1).expand(channels, -1, -1, -1), groups=channels)
