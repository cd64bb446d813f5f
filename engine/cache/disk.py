"""The disk tier: results of earlier processes, one safetensors file for each call, named by its key.

A file holds the tensors of the outputs; its header holds their structure as JSON. Only plain data and the value types
of `engine.types` are kept: models are not. Files are written whole or not at all, a damaged one is forgotten, and the
least recently used go when the limit is reached.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from engine.cache.values import Listed, Result
from engine.errors import UnencodableValue
from engine.types import Cond, Conditioning, Latent

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_LIMIT_BYTES = 8 << 30
"""How much the folder may hold unless said otherwise."""

MIN_SECONDS = 0.005
"""A result that took less is cheaper to compute again than to read."""

_FREE_SHARE = 0.1
_TYPES: dict[str, type] = {"Latent": Latent, "Cond": Cond, "Conditioning": Conditioning}
_FIELDS = {name: tuple(f.name for f in dataclasses.fields(type_)) for name, type_ in _TYPES.items()}


class DiskStore:
    """Results in a folder, at most `limit_bytes` of them.

    Args:
        folder: The folder; made when the first result is kept.
        limit_bytes: How much it may hold.
        min_seconds: Results that took less are not kept.
    """

    def __init__(self, folder: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES, *, min_seconds: float = MIN_SECONDS) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self.min_seconds = min_seconds
        self._used_bytes: int | None = None
        self._lock = threading.Lock()

    def __contains__(self, key: object) -> bool:
        """Whether the result of the call `key` is kept."""
        return isinstance(key, bytes) and self._path(key).is_file()

    def get(self, key: bytes) -> Result | None:
        """The result of the call `key`, or None; a damaged file is removed."""
        path = self._path(key)
        if not path.is_file():
            return None
        from safetensors import SafetensorError, safe_open

        try:
            header = _header(path)
            record = json.loads(header.pop("__metadata__")["result"])
            if header:
                with safe_open(path, framework="pt") as file:
                    outputs = tuple(_decoded(item, file) for item in record["outputs"])
            else:  # a text or a number does not import torch
                outputs = tuple(_decoded(item, None) for item in record["outputs"])
            os.utime(path)
        except (SafetensorError, AttributeError, KeyError, TypeError, ValueError, OSError):
            path.unlink(missing_ok=True)
            return None
        return Result(outputs, None, float(record["seconds"]))

    def put(self, key: bytes, result: Result, seconds: float) -> None:
        """Keep a result if it is plain data that took long enough, letting go of others if needed."""
        if seconds < self.min_seconds or not result.outputs or result.shown is not None:
            return
        path = self._path(key)
        if path.exists():
            return
        tensors: dict[str, Any] = {}
        try:
            outputs = [_encoded(value, tensors) for value in result.outputs]
        except UnencodableValue:
            return
        data = _file(tensors, {"result": json.dumps({"outputs": outputs, "seconds": seconds})})
        if len(data) > self.limit_bytes:
            return
        with self._lock, contextlib.suppress(OSError):  # a full or unwritable disk costs the cache, not the run
            path.parent.mkdir(parents=True, exist_ok=True)
            if self._used_bytes is None:
                self._used_bytes = sum(size for _, size, _ in self._files())
            if self._used_bytes + len(data) > self.limit_bytes:
                self._evict(self.limit_bytes - len(data))
            scratch = path.with_suffix(f".{os.getpid()}.tmp")
            try:
                scratch.write_bytes(data)
                scratch.replace(path)
            except OSError:
                scratch.unlink(missing_ok=True)
                raise
            self._used_bytes += len(data)

    def clear(self) -> None:
        """Remove every result."""
        with self._lock:
            for _, _, path in self._files():
                path.unlink(missing_ok=True)
            self._used_bytes = 0

    def _path(self, key: bytes) -> Path:
        name = key.hex()
        return self.folder / name[:2] / f"{name[2:]}.safetensors"

    def _files(self) -> list[tuple[float, int, Path]]:
        found = []
        for path in self.folder.glob("??/*.safetensors"):
            try:
                stat = path.stat()
            except OSError:
                continue
            found.append((stat.st_mtime, stat.st_size, path))
        return sorted(found)

    def _evict(self, allowed_bytes: int) -> None:
        target = min(allowed_bytes, int(self.limit_bytes * (1 - _FREE_SHARE)))
        files = self._files()
        used = sum(size for _, size, _ in files)
        for _, size, path in files:
            if used <= target:
                break
            path.unlink(missing_ok=True)
            used -= size
        self._used_bytes = used


def _header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: names of tensors to their places, and `__metadata__`.

    Raises:
        ValueError: if it is damaged.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > path.stat().st_size:
            msg = f"{path} is cut off"
            raise ValueError(msg)
        header = json.loads(file.read(size))
    if not isinstance(header, dict):
        msg = f"{path} has no header"
        raise ValueError(msg)  # noqa: TRY004 - the content of a file is a value
    return header


def _file(tensors: dict[str, Any], metadata: dict[str, str]) -> bytes:
    """A safetensors file; torch is imported only if there are tensors."""
    if tensors:
        from safetensors.torch import save

        return save(tensors, metadata)  # type: ignore[no-any-return]
    from safetensors import serialize

    return serialize({}, metadata)


def _encoded(value: Any, tensors: dict[str, Any]) -> Any:
    """A value as JSON; its tensors go into `tensors` under running numbers."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, Listed):
        return {"listed": [_encoded(v, tensors) for v in value]}
    if type(value) is tuple:
        return {"tuple": [_encoded(v, tensors) for v in value]}
    if type(value) is list:
        return {"list": [_encoded(v, tensors) for v in value]}
    if type(value) in {dict, MappingProxyType}:
        if all(isinstance(k, str) for k in value):
            return {"dict": [[k, _encoded(v, tensors)] for k, v in value.items()]}
    elif type(value).__module__ == "torch" and hasattr(value, "contiguous"):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    elif type(value) in _TYPES.values():
        name = type(value).__name__
        return {"type": name, "fields": [_encoded(getattr(value, f), tensors) for f in _FIELDS[name]]}
    msg = f"a {type(value).__name__} is not kept on disk"
    raise UnencodableValue(msg)


def _decoded(item: Any, file: Any) -> Any:
    """The value that `_encoded` made `item` of."""
    if not isinstance(item, dict):
        return item
    if "float" in item:
        return float.fromhex(item["float"])
    if "tensor" in item:
        return file.get_tensor(item["tensor"])
    if "listed" in item:
        return Listed(_decoded(v, file) for v in item["listed"])
    if "tuple" in item:
        return tuple(_decoded(v, file) for v in item["tuple"])
    if "list" in item:
        return [_decoded(v, file) for v in item["list"]]
    if "dict" in item:
        return MappingProxyType({k: _decoded(v, file) for k, v in item["dict"]})
    return _TYPES[item["type"]](*(_decoded(v, file) for v in item["fields"]))
