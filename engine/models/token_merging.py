"""Token merging: self-attention asks with fewer tokens, similar ones together.

The map is cut into squares of 2 x 2 tokens, and one token of each, drawn by lot, stays. Of the others, those most like one
that stays are averaged into it; what attention answers to it is given back to all of them.

Source: Bolya and Hoffman 2023, arXiv:2303.17604, sections 3 and 4; Bolya et al. 2022, arXiv:2210.09461, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from engine.models.hooks import Hook

if TYPE_CHECKING:
    from torch import Tensor

    from engine.models.hooks import Place
    from engine.sampling.rules import Draw

STRIDE = 2
"""Tokens along each side of a square of which one stays."""


@dataclass(frozen=True, slots=True)
class TokenMerging:
    """Merges the queries of self-attention at full resolution.

    Attributes:
        ratio: Share of the tokens that are merged into others, at most three quarters.
    """

    ratio: float

    def begun(self, draw: Draw) -> MergingHook:
        """The hook for one sampling, whose lots come from `draw`."""
        return MergingHook(self.ratio, draw)


class MergingHook(Hook):
    """Merges the queries of one sampling. It remembers, from the start of an attention to its end, what was merged."""

    def __init__(self, ratio: float, draw: Draw) -> None:
        """Begin a sampling: `ratio` of the tokens are merged, lots come from `draw`."""
        self._ratio, self._draw = ratio, draw
        self._merging: Merging | None = None

    def attention_inputs(self, q: Tensor, k: Tensor, v: Tensor, at: Place) -> tuple[Tensor, Tensor, Tensor]:
        """Fewer queries, where there is one for each cell of the latent; keys and values stay as they are."""
        count = int(q.shape[1] * self._ratio)
        height, width = at.size
        self._merging = None
        if at.attention != "self" or q.shape[1] != height * width or count <= 0:
            return q, k, v
        chosen = self._draw(STRIDE * STRIDE, (height // STRIDE, width // STRIDE, 1))
        self._merging = Merging.of(q, chosen.to(q.device), height, width, count)
        return self._merging.merged(q), k, v

    def after_attention(self, out: Tensor, at: Place) -> Tensor:
        """The answers, given back to every token."""
        if self._merging is None or at.attention != "self":
            return out
        return self._merging.restored(out)


@dataclass(frozen=True, slots=True, eq=False)
class Merging:
    """Which tokens are merged into which.

    Attributes:
        kept: [1, N - S, 1] places of the tokens that may be merged, S being the number of squares.
        stays: [1, S, 1] places of those that stay.
        single: [R, N - S - M, 1] of `kept`, the ones that are not merged.
        gone: [R, M, 1] of `kept`, the ones that are.
        into: [R, M, 1] of `stays`, what each of those is merged into.
    """

    kept: Tensor
    stays: Tensor
    single: Tensor
    gone: Tensor
    into: Tensor

    @classmethod
    def of(cls, tokens: Tensor, chosen: Tensor, height: int, width: int, count: int) -> Merging:
        """Find the most similar tokens.

        Args:
            tokens: [R, N, D], N being height * width.
            chosen: [height // 2, width // 2, 1] which token of each square stays, 0 to 3.
            height: Of the map.
            width: Of the map.
            count: How many are merged, if so many may be.
        """
        down, across = height // STRIDE, width // STRIDE
        squares = torch.zeros(down, across, STRIDE * STRIDE, dtype=torch.int64, device=tokens.device)
        squares.scatter_(2, chosen, -1)
        marks = torch.zeros(height, width, dtype=torch.int64, device=tokens.device)
        inner = squares.view(down, across, STRIDE, STRIDE).transpose(1, 2)
        marks[: down * STRIDE, : across * STRIDE] = inner.reshape(down * STRIDE, across * STRIDE)
        order = marks.reshape(1, -1, 1).argsort(dim=1, stable=True)
        stays, kept = order[:, : down * across], order[:, down * across :]
        unit = tokens / tokens.norm(dim=-1, keepdim=True)
        likeness = _taken(unit, kept) @ _taken(unit, stays).transpose(-1, -2)
        best, where = likeness.max(dim=-1)
        ranked = best.argsort(dim=-1, descending=True)[..., None]
        count = min(count, kept.shape[1])
        gone, single = ranked[:, :count], ranked[:, count:]
        return cls(kept, stays, single, gone, where[..., None].gather(1, gone))

    def merged(self, tokens: Tensor) -> Tensor:
        """[R, N - M, D]: the tokens that are not merged, then the means of those that are with those that stay."""
        free, stays = _taken(tokens, self.kept), _taken(tokens, self.stays)
        into = self.into.expand(-1, -1, tokens.shape[-1])
        means = stays.scatter_reduce(1, into, _taken(free, self.gone), reduce="mean")
        return torch.cat((_taken(free, self.single), means), dim=1)

    def restored(self, tokens: Tensor) -> Tensor:
        """[R, N, D] out of [R, N - M, D]: merged tokens are equal to what they were merged into."""
        rows, width = tokens.shape[0], tokens.shape[-1]
        single, means = tokens[:, : self.single.shape[1]], tokens[:, self.single.shape[1] :]
        whole = tokens.new_zeros(rows, self.kept.shape[1] + self.stays.shape[1], width)
        whole.scatter_(1, self.stays.expand(rows, -1, width), means)
        places = self.kept.expand(rows, -1, 1)
        whole.scatter_(1, places.gather(1, self.single).expand(-1, -1, width), single)
        whole.scatter_(1, places.gather(1, self.gone).expand(-1, -1, width), _taken(means, self.into))
        return whole


def _taken(tokens: Tensor, places: Tensor) -> Tensor:
    """[R, K, D] of [R, N, D] tokens at [R or 1, K, 1] places."""
    return tokens.gather(1, places.expand(tokens.shape[0], -1, tokens.shape[-1]))
