"""The memory tier: bounded in bytes; what is cheap to compute again for its size goes first.

Eviction is GreedyDual-Size: an entry's priority is the clock plus its cost for each byte, the entry with the lowest
priority goes, and the clock moves to its priority. So a value that is used again stays ahead, and one that is not ages.

Source: Cao and Irani 1997, "Cost-aware WWW proxy caching algorithms".
"""

from __future__ import annotations

import heapq
import threading
from typing import TYPE_CHECKING

from engine.cache.sizes import size_bytes

if TYPE_CHECKING:
    from engine.cache.values import Result

_OVERHEAD_BYTES = 200
"""What an entry costs beside its values."""

_FREE_SHARE = 0.1
"""Share of the limit that is freed when it is reached, so that eviction is rare."""


class _Entry:
    __slots__ = ("cost", "priority", "result", "size")

    def __init__(self, result: Result, size: int, cost: float, priority: float) -> None:
        self.result = result
        self.size = size
        self.cost = cost
        self.priority = priority


class MemoryStore:
    """Results in memory, at most `limit_bytes` of them.

    Args:
        limit_bytes: How much the values may hold.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._clock = 0.0
        self._entries: dict[bytes, _Entry] = {}
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
        size = _OVERHEAD_BYTES if len(outputs) == 1 and type(outputs[0]) is int else size_bytes(outputs) + _OVERHEAD_BYTES
        if size > self.limit_bytes:
            return
        cost = seconds / size
        with self._lock:
            old = self._entries.pop(key, None)
            if old is not None:
                self.used_bytes -= old.size
            if self.used_bytes + size > self.limit_bytes:
                self._evict(self.limit_bytes - size)
            self._entries[key] = _Entry(result, size, cost, self._clock + cost)
            self.used_bytes += size

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self.used_bytes = 0

    def _evict(self, allowed_bytes: int) -> None:
        """Let go of entries until at most `allowed_bytes` are held, and some room besides."""
        target = min(allowed_bytes, int(self.limit_bytes * (1 - _FREE_SHARE)))
        heap = [(entry.priority, i, key) for i, (key, entry) in enumerate(self._entries.items())]
        heapq.heapify(heap)
        while heap and self.used_bytes > target:
            priority, _, key = heapq.heappop(heap)
            self._clock = max(self._clock, priority)
            self.used_bytes -= self._entries.pop(key).size
