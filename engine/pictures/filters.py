"""Filters over neighbouring pixels: Gaussian blur and sharpening, and the morphology of grey values."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

Operation: TypeAlias = Literal["erode", "dilate", "open", "close", "gradient", "bottom_hat", "top_hat"]


def gaussian(radius: int, sigma: float) -> Tensor:
    """Weights of a Gaussian window along one side.

    The window spans -1..1 whatever its radius, and `sigma` counts in these units, as the reference has it.

    Returns:
        [2 * radius + 1] float32, sum 1.
    """
    places = torch.linspace(-1.0, 1.0, 2 * radius + 1)
    weights = torch.exp(-places.square() / (2.0 * sigma * sigma))
    return weights / weights.sum()


def blurred(x: Tensor, radius: int, sigma: float) -> Tensor:
    """Mean over a Gaussian window of `2 * radius + 1` cells a side; the edges are mirrored.

    Args:
        x: [B, C, H, W].
        radius: In cells.
        sigma: Standard deviation in units of the radius, see `gaussian`.

    Raises:
        ValueError: if `x` is not larger than the radius, so that there is nothing to mirror.
    """
    if radius >= min(x.shape[-2:]):
        height, width = x.shape[-2:]
        msg = f"cannot filter {width} x {height} cells with a radius of {radius}: it must be smaller than either side"
        raise ValueError(msg)
    weights, channels = gaussian(radius, sigma).to(x), x.shape[1]
    padded = torch.nn.functional.pad(x, (radius,) * 4, "reflect")
    # The window is a product of its sides: two passes give what one over the square would.
    down = torch.nn.functional.conv2d(padded, weights.reshape(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)
    return torch.nn.functional.conv2d(down, weights.reshape(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)


def sharpened(x: Tensor, radius: int, sigma: float, alpha: float) -> Tensor:
    """`x` with ten times `alpha` of its difference to its blurred self added (unsharp masking).

    Args:
        x: [B, C, H, W].
        radius: Of the window, in cells.
        sigma: Its standard deviation, see `blurred`.
        alpha: A tenth of the share of the difference.

    Raises:
        ValueError: as `blurred`.
    """
    return x + 10.0 * alpha * (x - blurred(x, radius, sigma))


def morphed(x: Tensor, operation: Operation, size: int) -> Tensor:
    """Morphology of grey values over a flat square window; what lies outside the picture does not count.

    Args:
        x: [B, C, H, W].
        operation: `open` erodes, then dilates, `close` the other way round; `gradient` is dilated minus eroded,
            `top_hat` what opening takes away, `bottom_hat` what closing adds.
        size: Side of the window. Of an even one the longer arm reaches up and left to erode, down and right to dilate,
            so that opening only takes away and closing only adds.

    Source: Serra 1982, "Image Analysis and Mathematical Morphology"; Gonzalez and Woods, "Digital Image Processing", 9.6.
    """
    if operation == "erode":
        return _eroded(x, size)
    if operation == "dilate":
        return _dilated(x, size)
    if operation == "open":
        return _dilated(_eroded(x, size), size)
    if operation == "close":
        return _eroded(_dilated(x, size), size)
    if operation == "gradient":
        return _dilated(x, size) - _eroded(x, size)
    if operation == "top_hat":
        return x - _dilated(_eroded(x, size), size)
    return _eroded(_dilated(x, size), size) - x


def _eroded(x: Tensor, size: int) -> Tensor:
    """Least value in the window around each cell."""
    return -_greatest(-x, before=size // 2, after=size - size // 2 - 1)


def _dilated(x: Tensor, size: int) -> Tensor:
    """Greatest value in the mirrored window around each cell."""
    return _greatest(x, before=size - size // 2 - 1, after=size // 2)


def _greatest(x: Tensor, *, before: int, after: int) -> Tensor:
    """Greatest value from `before` cells up and left of each cell to `after` cells down and right."""
    size = before + after + 1
    padded = torch.nn.functional.pad(x, (before, after, before, after), value=-torch.inf)
    down = torch.nn.functional.max_pool2d(padded, (size, 1), 1)
    return torch.nn.functional.max_pool2d(down, (1, size), 1)
