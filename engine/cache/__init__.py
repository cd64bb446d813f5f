"""What is kept of earlier runs, and for how long: tiers behind one `Store` protocol."""

from __future__ import annotations

from engine.cache.memory import MemoryStore
from engine.cache.sizes import size_bytes
from engine.cache.store import Store, Tiers

__all__ = ["MemoryStore", "Store", "Tiers", "size_bytes"]
