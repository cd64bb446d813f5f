"""LoKr: the Kronecker product of two small matrices, each of which may be a product of low rank itself.

Source: Yeh et al. 2023, arXiv:2309.14859, section 3; Edalati et al. 2022, arXiv:2212.10650.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from engine.models.adapters.change import here, inner, misfit, share, sizes

if TYPE_CHECKING:
    from torch import Tensor

    from engine.models.adapters.change import Factors

Half = tuple["Tensor", ...]
"""One matrix as a whole; its factors a and b; or these and the core between them."""


@dataclass(frozen=True, eq=False)
class Kronecker:
    """The change scale * kron(first, second).

    Attributes:
        first: A matrix [o1, i1], or its factors [o1, r] and [r, i1].
        second: A tensor [o2, i2, ...], or its factors [o2, r] and [r, i2, ...]; with the core [r, r, kh, kw] they are
            [r, o2] and [r, i2].
        scale: Alpha by rank; 1 where both are whole.
    """

    ROLES: ClassVar = frozenset({"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"})
    NEEDED: ClassVar = frozenset({"lokr_w1", "lokr_w2"})

    first: Half
    second: Half
    scale: float

    @classmethod
    def is_made_of(cls, factors: Factors) -> bool:
        """Whether each half is there, whole or in factors."""
        return all(f"lokr_w{n}" in factors or factors.keys() >= {f"lokr_w{n}_a", f"lokr_w{n}_b"} for n in (1, 2))

    @classmethod
    def of(cls, factors: Factors, shape: tuple[int, ...]) -> Kronecker:
        """Make it for a weight of `shape`; the rank is that of the half in factors, of the second if both are."""
        first, second = _half(factors, 1), _half(factors, 2)
        ranks = [half[1].shape[0] for half in (first, second) if len(half) > 1]
        (o1, *i1), (o2, *i2) = _size(first), _size(second)
        if (o1 * o2, math.prod(i1) * math.prod(i2)) != (shape[0], inner(shape)) or (len(i2) > 1 and tuple(i2[1:]) != shape[2:]):
            raise misfit(shape, **{role: tensor for role, tensor in factors.items() if role in cls.ROLES})
        return cls(first, second, share(factors, ranks[-1]) if ranks else 1.0)

    def delta(self, weight: Tensor, strength: float) -> Tensor:
        """What the weight gains."""
        import torch

        first, second = _whole(self.first, weight), _whole(self.second, weight)
        first = first.reshape(*first.shape, *[1] * (second.ndim - first.ndim)) * (self.scale * strength)
        return torch.kron(first, second.contiguous()).reshape(weight.shape)


def _half(factors: Factors, n: int) -> Half:
    if (whole := factors.get(f"lokr_w{n}")) is not None:
        return (whole,)
    pair, core = (factors[f"lokr_w{n}_a"], factors[f"lokr_w{n}_b"]), factors.get(f"lokr_t{n}")
    return pair if core is None else (*pair, core)


def _size(half: Half) -> tuple[int, ...]:
    """The shape of a half.

    Raises:
        ValueError: if its factors do not fit each other.
    """
    a, *rest = half
    if not rest:
        return tuple(a.shape)
    b, *cores = rest
    if cores and tuple(cores[0].shape[:2]) == (a.shape[0], b.shape[0]):
        return (inner(a.shape), inner(b.shape), *cores[0].shape[2:])
    if not cores and inner(a.shape) == b.shape[0]:
        return (a.shape[0], *b.shape[1:])
    msg = f"{sizes(**dict(zip(('a', 'b', 'core'), half, strict=False)))} do not fit each other"
    raise ValueError(msg)


def _whole(half: Half, weight: Tensor) -> Tensor:
    import torch

    a, *rest = (here(factor, weight) for factor in half)
    if not rest:
        return a
    b, *cores = rest
    if cores:
        return torch.einsum("rs...,ro,si->oi...", cores[0], a.flatten(1), b.flatten(1))
    return (a.flatten(1) @ b.flatten(1)).reshape(-1, *b.shape[1:])
