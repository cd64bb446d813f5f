"""Whole tensors: differences that are added, and weights that take the place of those that are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from engine.models.adapters.change import here, misfit

if TYPE_CHECKING:
    from torch import Tensor

    from engine.models.adapters.change import Factors


@dataclass(frozen=True, eq=False)
class Difference:
    """A difference, added as it is; alpha does not count.

    Attributes:
        difference: Of the weight's shape.
    """

    ROLES: ClassVar = frozenset({"difference"})
    NEEDED: ClassVar = ROLES

    difference: Tensor

    @classmethod
    def is_made_of(cls, factors: Factors) -> bool:
        """Whether there is one."""
        return "difference" in factors

    @classmethod
    def of(cls, factors: Factors, shape: tuple[int, ...]) -> Difference:
        """Make it for a weight of `shape`."""
        return cls(_shaped(factors["difference"], shape))

    def delta(self, weight: Tensor, strength: float) -> Tensor:
        """What the weight gains."""
        return here(self.difference, weight) * strength


@dataclass(frozen=True, eq=False)
class Replacement:
    """A weight instead of the one that is there.

    Attributes:
        weight: Of the weight's shape.
    """

    ROLES: ClassVar = frozenset({"replacement"})
    NEEDED: ClassVar = ROLES

    weight: Tensor

    @classmethod
    def is_made_of(cls, factors: Factors) -> bool:
        """Whether there is one."""
        return "replacement" in factors

    @classmethod
    def of(cls, factors: Factors, shape: tuple[int, ...]) -> Replacement:
        """Make it for a weight of `shape`."""
        return cls(_shaped(factors["replacement"], shape))

    def delta(self, weight: Tensor, strength: float) -> Tensor:
        """What the weight gains."""
        return (here(self.weight, weight) - weight).mul_(strength)


def _shaped(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`tensor` as `shape`; trailing sides of length 1 may be missing or too many: linear layers are 1x1 convolutions."""
    if _without_ones(tuple(tensor.shape)) != _without_ones(shape):
        raise misfit(shape, difference=tensor)
    return tensor.reshape(shape)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
