"""What an adapter is, and the change of a weight that it makes at some strength."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

if TYPE_CHECKING:
    from torch import Tensor

Factors = Mapping[str, "Tensor"]
"""What a file holds for one layer: role to tensor, in any format."""


class Adapter(Protocol):
    """A change of one weight."""

    ROLES: ClassVar[frozenset[str]]
    """Factors that it may be made of."""

    NEEDED: ClassVar[frozenset[str]]
    """Those that it cannot do without."""

    @classmethod
    def is_made_of(cls, factors: Factors) -> bool:
        """Whether the factors are of this kind: all that are needed are there."""

    @classmethod
    def of(cls, factors: Factors, shape: tuple[int, ...]) -> Self:
        """Make it for a weight of `shape`.

        Raises:
            ValueError: saying which factors do not fit.
        """

    def delta(self, weight: Tensor, strength: float) -> Tensor:
        """What the weight gains.

        Args:
            weight: float32, not to be written to.
            strength: How much of the change; 1 is what was trained.

        Returns:
            float32, like `weight`; a new tensor, which the caller may write to.
        """


@dataclass(frozen=True, eq=False)
class Adapted:
    """The change of a weight by an adapter.

    With a magnitude the changed weight is rescaled, so that its rows (or its columns) have the trained length.

    Attributes:
        adapter: Makes the change.
        strength: How much of it.
        magnitude: [O, 1, ...] or [1, I, 1, ...] trained lengths, or None.

    Source: Liu et al. 2024, arXiv:2402.09353, eq. 5.
    """

    adapter: Adapter
    strength: float
    magnitude: Tensor | None = None

    @classmethod
    def of(cls, adapter: Adapter, magnitude: Tensor | None, shape: tuple[int, ...], strength: float) -> Adapted:
        """Make it for a weight of `shape`.

        Raises:
            ValueError: if the magnitude has another number of rows or columns.
        """
        if magnitude is None:
            return cls(adapter, strength)
        ones = [1] * (len(shape) - 2)
        if len(shape) > 1 and magnitude.shape[0] == shape[0] == magnitude.numel():
            return cls(adapter, strength, magnitude.reshape(-1, 1, *ones))
        if len(shape) > 1 and magnitude.shape[0] == 1 and magnitude.numel() == shape[1]:
            return cls(adapter, strength, magnitude.reshape(1, -1, *ones))
        msg = f"magnitude {list(magnitude.shape)} does not fit {list(shape)}"
        raise ValueError(msg)

    def __call__(self, weight: Tensor) -> Tensor:
        """The changed weight: float32, on the device of `weight`."""
        import torch

        if self.magnitude is None:
            return self.adapter.delta(weight, self.strength).add_(weight)
        changed = self.adapter.delta(weight, 1.0).add_(weight)
        magnitude = here(self.magnitude, weight)
        kept = 0 if magnitude.shape[0] == weight.shape[0] and magnitude.shape[1] == 1 else 1
        lengths = torch.linalg.vector_norm(changed, dim=[d for d in range(weight.ndim) if d != kept], keepdim=True)
        changed.mul_(magnitude / (lengths + torch.finfo(torch.float32).eps))
        return torch.lerp(weight, changed, self.strength)


def here(tensor: Tensor, weight: Tensor) -> Tensor:
    """`tensor` in float32 where `weight` is."""
    import torch

    return tensor.to(weight.device, torch.float32)


def share(factors: Factors, rank: int) -> float:
    """Alpha by rank: what a change is scaled with; 1 where the file says nothing.

    Raises:
        ValueError: if the rank is 0.
    """
    if rank == 0:
        msg = "its factors have rank 0"
        raise ValueError(msg)
    alpha = factors.get("alpha")
    return float(alpha) / rank if alpha is not None else 1.0


def sizes(**factors: Tensor | None) -> str:
    """The factors that are there with their shapes, for messages."""
    return ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in factors.items() if tensor is not None)


def misfit(shape: tuple[int, ...], **factors: Tensor | None) -> ValueError:
    """The error of factors that make no weight of `shape`, with all shapes."""
    return ValueError(f"{sizes(**factors)} do not make {list(shape)}")


def inner(shape: tuple[int, ...]) -> int:
    """How many numbers a weight of `shape` has for each of its rows."""
    return math.prod(shape[1:])
