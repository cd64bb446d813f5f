"""How much memory a value holds on to."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

_SCALARS = frozenset({int, float, bool, str, bytes, type(None)})


def size_bytes(value: Any) -> int:
    """Bytes that a value holds: tensors by their storage, each storage once; objects may say `nbytes` themselves."""
    if type(value) in _SCALARS:
        return sys.getsizeof(value)
    seen: set[int] = set()
    total = 0
    front = [value]
    while front:
        item = front.pop()
        if type(item) in _SCALARS:
            total += sys.getsizeof(item)
            continue
        if id(item) in seen:
            continue
        seen.add(id(item))
        if hasattr(item, "untyped_storage"):
            storage = item.untyped_storage()
            if storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                total += storage.nbytes()
        elif isinstance(getattr(item, "nbytes", None), int):
            total += item.nbytes
        elif isinstance(item, list | tuple | set | frozenset):
            total += sys.getsizeof(item)
            front.extend(item)
        elif hasattr(item, "keys") and hasattr(item, "__getitem__"):
            total += 64
            front.extend(item[k] for k in item)
        elif dataclasses.is_dataclass(item) and not isinstance(item, type):
            front.extend(getattr(item, f.name) for f in dataclasses.fields(item))
        else:
            total += sys.getsizeof(item)
    return total
