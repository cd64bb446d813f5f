"""The protocol of a tier, and tiers stacked on each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.cache.values import Result


class Store(Protocol):
    """Keeps results of calls by key. A store may forget anything at any time; what it gives is what it was given."""

    def __contains__(self, key: object, /) -> bool:
        """Whether the result of the call `key` is kept now."""

    def get(self, key: bytes, /) -> Result | None:
        """The result of the call `key`, or None."""

    def put(self, key: bytes, result: Result, seconds: float, /) -> None:
        """Keep a result that took `seconds` to compute, if there is room and the store can hold it."""

    def clear(self) -> None:
        """Forget everything."""


class Tiers:
    """Stores stacked from fast to slow: what a slow one knows is brought up when asked for.

    Args:
        tiers: The stores, fastest first.
    """

    def __init__(self, tiers: Sequence[Store]) -> None:
        self._tiers = tuple(tiers)

    def __contains__(self, key: object) -> bool:
        """Whether some tier keeps the result of the call `key`."""
        return any(key in tier for tier in self._tiers)

    def get(self, key: bytes) -> Result | None:
        """The result of the call `key` from the fastest tier that has it, or None."""
        for i, tier in enumerate(self._tiers):
            result = tier.get(key)
            if result is not None:
                for faster in self._tiers[:i]:
                    faster.put(key, result, result.seconds)
                return result
        return None

    def put(self, key: bytes, result: Result, seconds: float) -> None:
        """Offer a result to every tier."""
        for tier in self._tiers:
            tier.put(key, result, seconds)

    def clear(self) -> None:
        """Forget everything in every tier."""
        for tier in self._tiers:
            tier.clear()
