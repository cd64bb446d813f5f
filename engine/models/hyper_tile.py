"""HyperTile: self-attention within tiles of the picture, which costs less than over the whole.

Source: tfernd, HyperTile, 2023, https://github.com/tfernd/HyperTile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.models.hooks import Hook

if TYPE_CHECKING:
    from torch import Tensor

    from engine.models.hooks import Place
    from engine.sampling.rules import Draw

CELL_PX = 8
SMALLEST_PX = 32
"""Side of the smallest tile."""


@dataclass(frozen=True, slots=True)
class HyperTile:
    """Cuts self-attention into tiles.

    Attributes:
        tile_px: Side of a tile at least, in pixels.
        options: How many sizes of tile there are to draw from.
        depth: How many times the map may be halved and is still cut.
        scales: Whether tiles cover twice as many cells along each side at each halving, and so even more of the picture.
    """

    tile_px: int
    options: int
    depth: int
    scales: bool

    def begun(self, draw: Draw) -> TilingHook:
        """The hook for one sampling, whose lots come from `draw`."""
        return TilingHook(self, draw)


class TilingHook(Hook):
    """Cuts the self-attentions of one sampling. It remembers, from the start of one to its end, into how many tiles."""

    def __init__(self, tiling: HyperTile, draw: Draw) -> None:
        """Begin a sampling: attention is cut as `tiling` says, lots come from `draw`."""
        self._tiling, self._draw = tiling, draw
        self._tiles: tuple[int, int] | None = None

    def attention_inputs(self, q: Tensor, k: Tensor, v: Tensor, at: Place) -> tuple[Tensor, Tensor, Tensor]:
        """Tiles as rows of their own, where there is a token for each cell of a map that is to be cut."""
        self._tiles = None
        level = self._level(q.shape[1], at)
        if at.attention != "self" or level is None:
            return q, k, v
        tiling = self._tiling
        smallest = max(SMALLEST_PX, tiling.tile_px) // CELL_PX * (2**level if tiling.scales else 1)
        down, across = (self._count(side, smallest) for side in at.cells)
        if down * across == 1:
            return q, k, v
        self._tiles = down, across
        q, k, v = (cut(part, at.cells, self._tiles) if part.shape[1] == q.shape[1] else part for part in (q, k, v))
        return q, k, v

    def after_attention(self, out: Tensor, at: Place) -> Tensor:
        """The tiles put together."""
        if self._tiles is None or at.attention != "self":
            return out
        return joined(out, at.cells, self._tiles)

    def _level(self, tokens: int, at: Place) -> int | None:
        """How many times the map was halved; None where it is not to be cut."""
        height, width = at.size
        levels = range(self._tiling.depth + 1)
        return next((i for i in levels if tokens == (height / 2**i) * (width / 2**i)), None)

    def _count(self, side: int, smallest: int) -> int:
        """Into how many tiles a side of so many cells is cut: one of the first few that leave tiles large enough.

        The last of them is never drawn, so that two sizes to draw from mean the smaller one.
        """
        sizes = [size for size in range(min(smallest, side), side + 1) if side % size == 0][: self._tiling.options]
        if len(sizes) < 2:
            return side // sizes[0]
        return side // sizes[int(self._draw(len(sizes) - 1, (1,)))]


def cut(tokens: Tensor, cells: tuple[int, int], tiles: tuple[int, int]) -> Tensor:
    """[R, h * w, D] tokens of a map of `cells` to [R * tiles, ..., D], tile after tile."""
    (height, width), (down, across) = cells, tiles
    rows, _, depth = tokens.shape
    split = tokens.view(rows, down, height // down, across, width // across, depth)
    return split.transpose(2, 3).reshape(rows * down * across, -1, depth)


def joined(tokens: Tensor, cells: tuple[int, int], tiles: tuple[int, int]) -> Tensor:
    """The inverse of `cut`."""
    (height, width), (down, across) = cells, tiles
    depth = tokens.shape[-1]
    split = tokens.view(-1, down, across, height // down, width // across, depth)
    return split.transpose(2, 3).reshape(-1, height * width, depth)
