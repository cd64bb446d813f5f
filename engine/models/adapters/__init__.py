"""Adapters: small tensors that stand for the change of a large one. One module for each way to do it.

`KINDS` lists them; what a file holds for one layer (its factors, by role) becomes an adapter by the kind that knows its
roles, and an adapter at a strength becomes the change of a weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.models.adapters.change import Adapted
from engine.models.adapters.difference import Difference, Replacement
from engine.models.adapters.generalized import Generalized
from engine.models.adapters.hadamard import Hadamard
from engine.models.adapters.kronecker import Kronecker
from engine.models.adapters.lowrank import LowRank
from engine.models.adapters.orthogonal import Butterfly, Rotation

if TYPE_CHECKING:
    from engine.models.adapters.change import Adapter, Factors

__all__ = ["KINDS", "Adapted", "adapted"]

KINDS: tuple[type[Adapter], ...] = (
    LowRank,
    Hadamard,
    Kronecker,
    Generalized,
    Rotation,
    Butterfly,
    Difference,
    Replacement,
)
"""Every way to change a weight."""

_EVERYWHERE = frozenset({"alpha", "magnitude"})
"""Roles beside those of a kind."""


def adapted(factors: Factors, shape: tuple[int, ...], strength: float) -> Adapted:
    """The change of a weight that `factors` stand for.

    Args:
        factors: Role to tensor.
        shape: Of the weight.
        strength: How much of it; 1 is what was trained, negative turns it around.

    Raises:
        ValueError: saying what is missing, or what does not fit the shape.
    """
    roles = factors.keys() - _EVERYWHERE
    kind = next((kind for kind in KINDS if roles <= kind.ROLES and kind.is_made_of(factors)), None)
    if kind is None:
        nearest = min((kind for kind in KINDS if roles & kind.ROLES), key=lambda kind: len(kind.NEEDED - roles), default=None)
        missing = " and ".join(sorted(nearest.NEEDED - roles)) if nearest else ""
        msg = f"lacks {missing}" if missing else f"{', '.join(sorted(roles)) or 'alpha'}: no kind of adapter is made of these"
        raise ValueError(msg)
    return Adapted.of(kind.of(factors, shape), factors.get("magnitude"), shape, strength)
