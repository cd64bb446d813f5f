"""LoHa: the product, number by number, of two changes of low rank.

Source: Yeh et al. 2023, arXiv:2309.14859, section 3 and appendix; Hyeon-Woo et al. 2021, arXiv:2108.06098, proposition 3
for the form with a core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from engine.models.adapters.change import here, inner, misfit, share

if TYPE_CHECKING:
    from torch import Tensor

    from engine.models.adapters.change import Factors


@dataclass(frozen=True, eq=False)
class Hadamard:
    """The change scale * (a1 . b1) * (a2 . b2).

    Attributes:
        halves: Twice (a, b, core). Without a core a is [O, r] and b is [r, I * kh * kw]; with the core [r, r, kh, kw],
            a is [r, O] and b is [r, I].
        scale: Alpha by rank.
    """

    ROLES: ClassVar = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"})
    NEEDED: ClassVar = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"})

    halves: tuple[tuple[Tensor, Tensor, Tensor | None], ...]
    scale: float

    @classmethod
    def is_made_of(cls, factors: Factors) -> bool:
        """Whether all four factors are there."""
        return factors.keys() >= cls.NEEDED

    @classmethod
    def of(cls, factors: Factors, shape: tuple[int, ...]) -> Hadamard:
        """Make it for a weight of `shape`; the rank is that of the first b."""
        halves = tuple((factors[f"hada_w{n}_a"], factors[f"hada_w{n}_b"], factors.get(f"hada_t{n}")) for n in (1, 2))
        for a, b, core in halves:
            rows, columns = b.shape[0], inner(b.shape)
            if core is None:
                fits = (a.shape[0], inner(a.shape), columns) == (shape[0], rows, inner(shape))
            else:
                outer = (inner(a.shape), columns)
                fits = tuple(core.shape) == (a.shape[0], rows, *shape[2:]) and outer == shape[:2]
            if not fits:
                raise misfit(shape, a=a, b=b, core=core)
        return cls(halves, share(factors, halves[0][1].shape[0]))

    def delta(self, weight: Tensor, strength: float) -> Tensor:
        """What the weight gains."""
        first, second = (_product(half, weight) for half in self.halves)
        return first.mul_(second).mul_(self.scale * strength)


def _product(half: tuple[Tensor, Tensor, Tensor | None], weight: Tensor) -> Tensor:
    import torch

    a, b = (here(factor, weight).flatten(1) for factor in half[:2])
    if half[2] is None:
        return (a @ b).reshape(weight.shape)
    return torch.einsum("rs...,ro,si->oi...", here(half[2], weight), a, b)
