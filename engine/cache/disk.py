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
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from engine.cache.values import Listed, Result
from engine.errors import UnencodableValue
from engine.types import Cond, Conditioning, Latent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEFAULT_LIMIT_BYTES = 8 << 30
"""How much the folder may hold unless said otherwise."""

MIN_SECONDS = 0.005
"""A result that took less is cheaper to compute again than to read."""

_SUFFIX = ".safetensors"
_FREE_SHARE = 0.1
_STALE_SECONDS = 3600.0  # a file that is still being written is younger
_DAMAGED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)  # what decoding raises
_TYPES: dict[str, type] = {"Latent": Latent, "Cond": Cond, "Conditioning": Conditioning}
_FIELDS = {name: tuple(f.name for f in dataclasses.fields(type_)) for name, type_ in _TYPES.items()}


class DiskStore:
    """Results in a folder, at most `limit_bytes` of them.

    The folder is listed once, when it is first asked for; afterwards only this process's own results are added. What
    another process keeps meanwhile is found by the next process; what another process removes is noticed at `get`.

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
        self._keys: set[bytes] | None = None
        self._lock = threading.Lock()

    def __contains__(self, key: object) -> bool:
        """Whether the result of the call `key` is kept, as far as this process knows."""
        keys = self._keys
        return isinstance(key, bytes) and key in (keys if keys is not None else self._listed())

    def get(self, key: bytes) -> Result | None:
        """The result of the call `key`, or None; a damaged file is removed, one that cannot be read is left alone."""
        if key not in self:
            return None
        from safetensors import SafetensorError

        path = self._path(key)
        try:
            result = _read(path)
        except (*_DAMAGED, SafetensorError):
            self._listed().discard(key)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        except (OSError, MemoryError, RuntimeError):  # gone, not ours to read, or no room for it now
            self._listed().discard(key)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return result

    def put(self, key: bytes, result: Result, seconds: float) -> None:
        """Keep a result if it is plain data that took long enough, letting go of others if needed."""
        if seconds < self.min_seconds or not result.outputs or result.shown is not None:
            return
        keys = self._listed()
        if key in keys:
            return
        path = self._path(key)
        tensors: dict[str, Any] = {}
        try:
            outputs = [_encoded(value, tensors) for value in result.outputs]
            data = _file(tensors, {"result": json.dumps({"outputs": outputs, "seconds": seconds})})
        except (UnencodableValue, *_DAMAGED):  # JSON has no number of 5,000 digits, safetensors not every type of tensor
            return
        if len(data) > self.limit_bytes:
            return
        with self._lock, contextlib.suppress(OSError, ValueError):  # a full or unwritable disk costs the cache, not the run
            path.parent.mkdir(parents=True, exist_ok=True)
            if self._used_bytes is None:
                self._used_bytes = sum(size for _, size, _, _ in self._files())
            if self._used_bytes + len(data) > self.limit_bytes:
                self._evict(self.limit_bytes - len(data), keys)
            scratch = path.with_suffix(f".{os.getpid()}.tmp")
            try:
                scratch.write_bytes(data)
                scratch.replace(path)
            except OSError:
                scratch.unlink(missing_ok=True)
                raise
            self._used_bytes += len(data)
            keys.add(key)

    def clear(self) -> None:
        """Remove every result, and what killed processes left."""
        keys = self._listed()
        with self._lock:
            for _, _, _, path in self._files():
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            keys.clear()
            self._used_bytes = None

    def _path(self, key: bytes) -> Path:
        name = key.hex()
        return self.folder / name[:2] / f"{name[2:]}{_SUFFIX}"

    def _listed(self) -> set[bytes]:
        """The keys of the results in the folder, listed at the first call."""
        if self._keys is None:
            with self._lock:
                if self._keys is None:
                    self._keys = {key for key in map(_key, self._names()) if key}
        return self._keys

    def _names(self) -> Iterator[str]:
        """The files that may count, as `folder/name`: results, and what was not finished."""
        with contextlib.suppress(OSError, ValueError), os.scandir(self.folder) as folders:
            for folder in folders:
                if len(folder.name) != 2:
                    continue
                with contextlib.suppress(OSError), os.scandir(folder.path) as files:
                    for file in files:
                        if file.name.endswith((_SUFFIX, ".tmp")):
                            yield f"{folder.name}/{file.name}"

    def _files(self) -> list[tuple[float, int, str, Path]]:
        """(time of last use, size, name, path) of results and of what killed processes left, oldest first."""
        found = []
        stale = time.time() - _STALE_SECONDS
        for name in self._names():
            path = self.folder / name
            try:
                stat = path.stat()
            except OSError:
                continue
            if path.suffix != ".tmp" or stat.st_mtime < stale:
                found.append((stat.st_mtime, stat.st_size, name, path))
        return sorted(found)

    def _evict(self, allowed_bytes: int, keys: set[bytes]) -> None:
        target = min(allowed_bytes, int(self.limit_bytes * (1 - _FREE_SHARE)))
        files = self._files()
        used = sum(size for _, size, _, _ in files)
        for _, size, name, path in files:
            if used <= target:
                break
            with contextlib.suppress(OSError):  # one that cannot be removed stays, and counts
                path.unlink(missing_ok=True)
                used -= size
                keys.discard(_key(name))
        self._used_bytes = used


def _key(name: str) -> bytes:
    """The key of the result in a file `folder/name`; empty if it holds none."""
    try:
        return bytes.fromhex(name.removesuffix(_SUFFIX).replace("/", "", 1))
    except ValueError:
        return b""


def _read(path: Path) -> Result:
    """The result in a file.

    Raises:
        OSError: if it cannot be read.
        SafetensorError: or one of `_DAMAGED`, if it is damaged.
    """
    header = _header(path)
    record = json.loads(header.pop("__metadata__")["result"])
    outputs, seconds = record["outputs"], float(record["seconds"])
    if not isinstance(outputs, list):
        msg = f"{path} has no outputs"
        raise ValueError(msg)  # noqa: TRY004 - the content of a file is a value
    if not header:  # a text or a number does not import torch
        return Result(tuple(_decoded(item, None) for item in outputs), None, seconds)
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return Result(tuple(_decoded(item, file) for item in outputs), None, seconds)


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
