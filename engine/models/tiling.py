"""Networks applied tile by tile, for pictures that do not fit in memory whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import WeftError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def tiled(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    tile: tuple[int, int],
    overlap: int,
    scale: float,
    channels: int,
) -> Tensor:
    """Apply `function` to overlapping tiles of `x` and blend the results.

    Tiles step by `tile - overlap`; the last of a row is what remains, at least `overlap` wide. Each result weighs less
    towards every edge of its tile, linearly over `overlap`.

    Args:
        function: [1, C, a, b] to [1, channels, a * scale, b * scale].
        x: [B, C, h, w].
        tile: Height and width of a tile, in cells of `x`.
        overlap: Cells of `x` that neighbouring tiles share.
        scale: Size of the result for each cell of `x`.
        channels: C of the result.

    Returns:
        [B, channels, h * scale, w * scale] float32 on the CPU.

    Raises:
        WeftError: if tiles overlap by their whole side.
    """
    import torch

    if overlap >= min(tile):
        msg = f"cannot work in tiles of {tile[0]}x{tile[1]} that overlap by {overlap}: use larger tiles or less overlap"
        raise WeftError(msg)
    height, width = round(x.shape[2] * scale), round(x.shape[3] * scale)
    rows = []
    for i in range(len(x)):
        total = torch.zeros(1, channels, height, width)
        weight = torch.zeros(1, 1, height, width)
        for top in _starts(x.shape[2], tile[0], overlap):
            for left in _starts(x.shape[3], tile[1], overlap):
                # a slice ends with the picture: the last tile is narrower
                result = function(x[i : i + 1, :, top : top + tile[0], left : left + tile[1]]).float().cpu()
                ramp = _ramp(result, round(overlap * scale))
                y, z = round(top * scale), round(left * scale)
                area = (..., slice(y, y + result.shape[2]), slice(z, z + result.shape[3]))
                total[area] += result * ramp
                weight[area] += ramp
        rows.append(total / weight)
    return torch.cat(rows)


def count_tiles(size: int, tile: int, overlap: int) -> int:
    """How many tiles `tiled` makes along one side."""
    return len(_starts(size, tile, overlap))


def _starts(size: int, tile: int, overlap: int) -> range | tuple[int]:
    """Where tiles begin along one side."""
    return range(0, size - overlap, tile - overlap) if size > tile else (0,)


def _ramp(tile: Tensor, overlap: int) -> Tensor:
    """[1, 1, a, b] weights that rise linearly over `overlap` from every edge of `tile`."""
    import torch

    weight = torch.ones(1, 1, *tile.shape[2:])
    for step in range(min(overlap, tile.shape[2], tile.shape[3])):
        share = (step + 1) / overlap
        weight[:, :, step] *= share
        weight[:, :, tile.shape[2] - 1 - step] *= share
        weight[:, :, :, step] *= share
        weight[:, :, :, tile.shape[3] - 1 - step] *= share
    return weight
