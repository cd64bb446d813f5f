"""GLoRA: a change of low rank, and one that multiplies the weight.

Source: Chavan et al. 2023, arXiv:2306.07967, eq. 9, in the form of LyCORIS: W' = W + scale * (W . A + B).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from engine.models.adapters.change import here, inner, misfit, share

if TYPE_CHECKING:
    from torch import Tensor

    from engine.models.adapters.change import Factors


@dataclass(frozen=True, eq=False)
class Generalized:
    """The change scale * (W . a1 . a2 + b1 . b2).

    Attributes:
        a1: [I, r].
        a2: [r, I].
        b1: [O, r].
        b2: [r, I] or [r, I, kh, kw].
        scale: Alpha by rank.
    """

    ROLES: ClassVar = frozenset({"a1", "a2", "b1", "b2"})
    NEEDED: ClassVar = ROLES

    a1: Tensor
    a2: Tensor
    b1: Tensor
    b2: Tensor
    scale: float

    @classmethod
    def is_made_of(cls, factors: Factors) -> bool:
        """Whether all four factors are there."""
        return factors.keys() >= cls.NEEDED

    @classmethod
    def of(cls, factors: Factors, shape: tuple[int, ...]) -> Generalized:
        """Make it for a weight of `shape`; early files have each pair the other way round."""
        a1, a2, b1, b2 = (factors[role] for role in ("a1", "a2", "b1", "b2"))
        for first_a, last_a, first_b, last_b in ((a1, a2, b1, b2), (a2, a1, b2, b1)):
            rank = last_a.shape[0]
            found = [side for factor in (first_a, last_a, first_b, last_b) for side in (factor.shape[0], inner(factor.shape))]
            if len(shape) > 1 and found == [shape[1], rank, rank, shape[1], shape[0], rank, rank, inner(shape)]:
                return cls(first_a, last_a, first_b, last_b, share(factors, rank))
        raise misfit(shape, a1=a1, a2=a2, b1=b1, b2=b2)

    def delta(self, weight: Tensor, strength: float) -> Tensor:
        """What the weight gains."""
        import torch

        a1, a2, b1, b2 = (here(factor, weight).flatten(1) for factor in (self.a1, self.a2, self.b1, self.b2))
        through = torch.einsum("oi...,ir,rj->oj...", weight, a1, a2)
        return (b1 @ b2).reshape(weight.shape).add_(through).mul_(self.scale * strength)
