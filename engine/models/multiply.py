"""Patches that scale the layers of attentions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.models.weights import Patch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Multiplied:
    """The change W * factor of one weight.

    Attributes:
        factor: Unitless.
    """

    factor: float

    def __call__(self, weight: Tensor) -> Tensor:
        """The changed weight: float32, on the device of `weight`."""
        return weight * self.factor


def multiplied(names: Iterable[str], factors: Mapping[str, float], label: str) -> Patch:
    """A patch that scales weights and biases of layers.

    Args:
        names: The weights of a network.
        factors: End of a layer's name, such as `attn1.to_q`, to its factor.
        label: What the patch is.
    """
    changes = {
        name: Multiplied(factor)
        for name in names
        for layer, factor in factors.items()
        if factor != 1 and name.endswith((f".{layer}.weight", f".{layer}.bias"))
    }
    return Patch(changes, label)
