"""The memory tier: bounded in bytes; what is cheap to compute again for its size goes first.

Eviction is GreedyDual-Size: an entry's priority is the clock plus its cost for each byte, the entry with the lowest
priority goes, and the clock moves to its priority. So a value that is used again stays ahead, and one that is not ages.

Source: Cao and Irani 1997, "Cost-aware WWW proxy caching algorithms".
"""

from __future__ import annotations

import heapq
import threading
from types import MappingProxyType
from typing import TYPE_CHECKING

from engine.cache.sizes import holdings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.cache.values import Result

_NOTHING: Mapping[tuple[int, int], int] = MappingProxyType({})

_OVERHEAD_BYTES = 200
"""What an entry costs beside its values."""

_FREE_SHARE = 0.1
"""Share of the limit that is freed when it is reached, so that eviction is rare."""


class _Entry:
    __slots__ = ("cost", "own", "priority", "result", "storages")

    def __init__(self, result: Result, own: int, storages: Mapping[tuple[int, int], int], cost: float) -> None:
        self.result = result
        self.own = own
        self.storages = storages
        self.cost = cost
        self.priority = 0.0


class MemoryStore:
    """Results in memory, at most `limit_bytes` of them. A tensor storage that several results share counts once.

    Args:
        limit_bytes: How much the values may hold.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._clock = 0.0
        self._entries: dict[bytes, _Entry] = {}
        self._holders: dict[tuple[int, int], int] = {}
        self._lock = threading.Lock()

    def __contains__(self, key: object) -> bool:
        """Whether the result of the call `key` is kept."""
        return key in self._entries

    def __len__(self) -> int:
        """How many results are kept."""
        return len(self._entries)

    def get(self, key: bytes) -> Result | None:
        """The result of the call `key`, or None; it counts as used."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        entry.priority = self._clock + entry.cost
        return entry.result

    def put(self, key: bytes, result: Result, seconds: float) -> None:
        """Keep a result, letting go of others if needed; one larger than the limit is not kept."""
        outputs = result.outputs
        own, storages = (0, _NOTHING) if len(outputs) == 1 and type(outputs[0]) is int else holdings(outputs)
        own += _OVERHEAD_BYTES
        if own + sum(storages.values()) > self.limit_bytes:
            return
        with self._lock:
            if key in self._entries:
                self._remove(key)
            size = own
            for storage, nbytes in storages.items():
                held = self._holders.get(storage, 0)
                self._holders[storage] = held + 1
                if not held:
                    size += nbytes
            self.used_bytes += size
            if self.used_bytes > self.limit_bytes:
                self._evict()
            entry = _Entry(result, own, storages, seconds / size)
            entry.priority = self._clock + entry.cost
            self._entries[key] = entry

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._holders.clear()
            self.used_bytes = 0

    def _remove(self, key: bytes) -> None:
        """Let go of an entry; a storage that others hold stays."""
        entry = self._entries.pop(key)
        self.used_bytes -= entry.own
        for storage, nbytes in entry.storages.items():
            left = self._holders[storage] - 1
            if left:
                self._holders[storage] = left
            else:
                del self._holders[storage]
                self.used_bytes -= nbytes

    def _evict(self) -> None:
        """Let go of entries until the limit is met with some room besides."""
        target = int(self.limit_bytes * (1 - _FREE_SHARE))
        heap = [(entry.priority, i, key) for i, (key, entry) in enumerate(self._entries.items())]
        heapq.heapify(heap)
        while heap and self.used_bytes > target:
            priority, _, key = heapq.heappop(heap)
            self._clock = max(self._clock, priority)
            self._remove(key)
