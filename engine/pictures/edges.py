"""Canny's edge detector."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from engine.pictures.colours import LUMA

BLUR_SIGMA = 1.0
BLUR_RADIUS = 2
TINY = 1e-6
"""Added to the square of slopes, so that even places have a slope too."""

NEIGHBOURS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
"""Rows down and columns right of the neighbour in each direction of 45 degrees, from the right, clockwise."""


def canny(x: Tensor, low: float, high: float) -> Tensor:
    """Where pictures have edges: lines one pixel wide of strong slopes, and of weaker ones that lead on from them.

    Args:
        x: [B, C, H, W] float32 in 0..1, C is 1, 3 or 4; transparency is not seen.
        low: Slope of a weak edge, in brightness per pixel of a Sobel filter (8 between black and white).
        high: Slope of a strong edge.

    Returns:
        [B, 1, H, W], 1 on edges, 0 elsewhere.

    Raises:
        ValueError: if `low` is above `high`.

    Source: Canny 1986, "A computational approach to edge detection".
    """
    if low > high:
        msg = f"cannot find edges with a low threshold of {low} above the high one of {high}"
        raise ValueError(msg)
    slope = _thinned(*_slopes(_smoothed(_grey(x))))
    strong, weak = (slope > high).cpu().numpy(), (slope > low).cpu().numpy()
    block = np.ones((3, 3), bool)
    edges = [ndimage.binary_propagation(s[0], block, mask=w[0]) for s, w in zip(strong, weak, strict=True)]
    return torch.from_numpy(np.stack(edges)[:, None]).to(x)


def _grey(x: Tensor) -> Tensor:
    if x.shape[1] == 1:
        return x
    return (x[:, :3] * torch.tensor(LUMA, device=x.device).reshape(1, 3, 1, 1)).sum(1, keepdim=True)


def _smoothed(x: Tensor) -> Tensor:
    """A Gaussian of one pixel over 5 x 5, the edges mirrored where the picture is large enough, else repeated."""
    places = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, dtype=x.dtype, device=x.device)
    weights = torch.exp(-places.square() / (2 * BLUR_SIGMA**2))
    weights = weights / weights.sum()
    mode = "reflect" if min(x.shape[-2:]) > BLUR_RADIUS else "replicate"
    padded = torch.nn.functional.pad(x, (BLUR_RADIUS,) * 4, mode)
    return _convolved(padded, weights[:, None] * weights[None, :])


def _slopes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Strength and direction (in steps of 45 degrees, 0..7) of the slope, by Sobel's filters; the edges are repeated."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=x.device)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), "replicate")
    right, down = _convolved(padded, across), _convolved(padded, across.T)
    strength = (right.square() + down.square() + TINY).sqrt()
    # In degrees before rounding, as the reference: half steps then fall on the same side.
    direction = torch.atan2(down, right).rad2deg().div(45).round()
    return strength, direction.remainder(8).long()


def _thinned(strength: Tensor, direction: Tensor) -> Tensor:
    """`strength` where it is greater than on both sides along its direction, else 0; outside the picture it is 0."""
    height, width = strength.shape[-2:]
    padded = torch.nn.functional.pad(strength, (1, 1, 1, 1))
    rises = torch.cat([strength - padded[..., 1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in NEIGHBOURS], 1)
    ahead, behind = rises.gather(1, direction), rises.gather(1, (direction + 4) % 8)
    return strength.where(torch.minimum(ahead, behind) > 0, 0.0)


def _convolved(x: Tensor, weights: Tensor) -> Tensor:
    return torch.nn.functional.conv2d(x, weights[None, None])
