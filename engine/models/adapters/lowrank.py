"""LoRA and LoCon: a change of low rank.

Source: Hu et al. 2021, arXiv:2106.09685, section 4.1; convolutions, and the factor between the two (a Tucker
decomposition): Yeh et al. 2023, arXiv:2309.14859, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from engine.models.adapters.change import here, inner, misfit, share

if TYPE_CHECKING:
    from torch import Tensor

    from engine.models.adapters.change import Factors


@dataclass(frozen=True, eq=False)
class LowRank:
    """The change scale * up . down.

    Attributes:
        up: [O, r] or [O, r, 1, 1].
        down: [r, I] or [r, I, kh, kw].
        mid: [r, s, kh, kw] between the two, or None; `down` is then [s, I, 1, 1].
        scale: Alpha by rank.
    """

    ROLES: ClassVar = frozenset({"up", "down", "mid"})
    NEEDED: ClassVar = frozenset({"up", "down"})

    up: Tensor
    down: Tensor
    mid: Tensor | None
    scale: float

    @classmethod
    def is_made_of(cls, factors: Factors) -> bool:
        """Whether both outer factors are there."""
        return factors.keys() >= cls.NEEDED

    @classmethod
    def of(cls, factors: Factors, shape: tuple[int, ...]) -> LowRank:
        """Make it for a weight of `shape`; the rank is that of `down`."""
        up, down, mid = factors["up"], factors["down"], factors.get("mid")
        outer = (up.shape[0], inner(up.shape))
        if mid is None:
            fits = outer == (shape[0], down.shape[0]) and inner(down.shape) == inner(shape)
        else:
            fits = tuple(mid.shape) == (outer[1], down.shape[0], *shape[2:]) and (outer[0], inner(down.shape)) == shape[:2]
        if not fits:
            raise misfit(shape, up=up, down=down, mid=mid)
        return cls(up, down, mid, share(factors, down.shape[0]))

    def delta(self, weight: Tensor, strength: float) -> Tensor:
        """What the weight gains."""
        import torch

        up = here(self.up, weight).flatten(1) * (self.scale * strength)
        down = here(self.down, weight).flatten(1)
        if self.mid is None:
            return (up @ down).reshape(weight.shape)
        return torch.einsum("or,rs...,si->oi...", up, here(self.mid, weight), down)
