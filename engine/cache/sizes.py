"""How much memory a value holds on to."""

from __future__ import annotations

import dataclasses
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCALARS = frozenset({int, float, bool, str, bytes, type(None)})
_MAX_OBJECTS = 4096
_SHARED = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType)  # code is nobody's


def size_bytes(value: Any) -> int:
    """Bytes that a value holds, see `holdings`."""
    own, storages = holdings(value)
    return own + sum(storages.values())


def holdings(value: Any) -> tuple[int, dict[tuple[int, int], int]]:
    """(bytes of its own, tensor storages by address and size to bytes): values that share a storage name the same one.

    Objects that are no containers may say `nbytes` themselves. Objects of other types are counted with what their
    attributes hold; of those, the first few thousand that are met.
    """
    storages: dict[tuple[int, int], int] = {}
    if type(value) in _SCALARS:
        return sys.getsizeof(value), storages
    seen: dict[int, Any] = {}  # with the objects: an id is free again when its object goes
    total = 0
    opened = 0
    front = [value]
    while front:
        item = front.pop()
        if type(item) in _SCALARS:
            total += sys.getsizeof(item)
            continue
        if id(item) in seen:
            continue
        seen[id(item)] = item
        if isinstance(item, _SHARED):
            total += sys.getsizeof(item)
        elif hasattr(item, "untyped_storage"):
            storage = item.untyped_storage()
            storages[storage.data_ptr(), storage.nbytes()] = storage.nbytes()
        elif dataclasses.is_dataclass(item):
            front.extend(getattr(item, f.name) for f in dataclasses.fields(item))
        elif isinstance(getattr(item, "nbytes", None), int):
            total += item.nbytes
        elif isinstance(item, list | tuple | set | frozenset):
            total += sys.getsizeof(item)
            front.extend(item)
        elif hasattr(item, "keys") and hasattr(item, "__getitem__"):
            total += 64
            front.extend(item[k] for k in item)
        else:
            total += sys.getsizeof(item)
            if opened < _MAX_OBJECTS:
                opened += 1
                front.extend(_attributes(item))
    return total, storages


def _attributes(item: Any) -> Iterator[Any]:
    """The values of an object's attributes, in `__dict__` and in slots; properties are not computed."""
    yield from list(getattr(item, "__dict__", {}).values())
    for class_ in type(item).__mro__:
        for member in vars(class_).values():
            if isinstance(member, types.MemberDescriptorType):
                try:
                    yield member.__get__(item)
                except AttributeError:  # a slot without a value
                    continue
