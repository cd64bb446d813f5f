"""Canonical bytes, digests, and the key of every call before anything runs.

key = digest(kind, version, inputs sorted by name). A link contributes its parent's key and port, a literal its canonical
bytes, a file the digest of its content. The bytes are prefix-free and open with a tag for the type, so that `1`, `1.0`,
`True` and `"1"` never share a key, nor do `0.0` and `-0.0`; all NaNs are one value.

Keys are linear in the graph and equal across processes and machines.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.errors import UnencodableValue, WeftError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from engine.schema import Kind
    from engine.validate import Checked, CheckedNode

KEY_BYTES = 20
"""Length of a key."""

_VERSION = b"weft-key-2"


class Bound(NamedTuple):
    """A value that already has an identity: the output of a node, handed into a subgraph.

    Attributes:
        value: The value.
        identity: Its canonical bytes.
    """

    value: Any
    identity: bytes


class FileDigests:
    """Content digests of files, remembered by path, size, modification time and inode.

    Args:
        memo: Where to remember them between processes (JSON), or None.
    """

    def __init__(self, memo: Path | None = None) -> None:
        self._memo = memo
        self._known: dict[tuple[str, int, int, int], str] = {} if memo is None else _memo(memo)
        self._is_changed = False

    def digest(self, path: Path) -> bytes:
        """Digest of a file's content, or of all files below a folder with their names.

        Raises:
            WeftError: if it cannot be read; the message names it.
        """
        try:
            if path.is_dir():
                hasher = hashlib.sha256(b"folder")
                for inner in sorted(p for p in path.rglob("*") if p.is_file()):
                    hasher.update(_text(inner.relative_to(path).as_posix()) + self.digest(inner))
                return hasher.digest()
            stat = path.stat()
            state = (str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ino)
            known = self._known.get(state)
            if known is None:
                with path.open("rb") as file:
                    known = hashlib.file_digest(file, "sha256").hexdigest()
                self._known[state] = known
                self._is_changed = True
        except OSError as cause:
            msg = f"{path}: cannot be read, so no key can name its content: {cause.strerror or cause}"
            raise WeftError(msg) from cause
        return bytes.fromhex(known)

    def save(self) -> None:
        """Write the memo, whole or not at all; where that is impossible, the next process reads the files again."""
        if self._memo is None or not self._is_changed:
            return
        with contextlib.suppress(OSError, ValueError):  # a path may be odd in itself: a zero in it, no name
            scratch = self._memo.with_name(f"{self._memo.name}.{os.getpid()}.tmp")
            self._memo.parent.mkdir(parents=True, exist_ok=True)
            try:
                scratch.write_text(json.dumps([[*state, digest] for state, digest in self._known.items()]), "utf-8")
                scratch.replace(self._memo)
            except OSError:
                scratch.unlink(missing_ok=True)
                raise
            self._is_changed = False


def _memo(path: Path) -> dict[tuple[str, int, int, int], str]:
    """The sound rows of a memo; a damaged or unreadable one costs only time."""
    try:
        rows = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(rows, list):
        return {}
    return {(row[0], row[1], row[2], row[3]): row[4] for row in rows if _is_sound(row)}


def _is_sound(row: object) -> bool:
    """Whether a row of a memo is path, size, modification time, inode and a digest."""
    return (
        isinstance(row, list)
        and [type(part) for part in row] == [str, int, int, int, str]
        and re.fullmatch("[0-9a-f]{64}", row[4]) is not None
    )


def digest(value: Any, files: FileDigests | None = None) -> bytes:
    """[20] bytes that name a value: equal for equal typed values, different otherwise.

    Raises:
        UnencodableValue: if the value has no canonical bytes.
    """
    return hashlib.blake2b(canonical(value, files), digest_size=KEY_BYTES).digest()


def canonical(value: Any, files: FileDigests | None = None) -> bytes:
    """Canonical bytes of a value; no two distinct typed values share them.

    Raises:
        UnencodableValue: if the value is of a type that has none.
    """
    encode = _ENCODERS.get(type(value))
    if encode is not None:
        return encode(value)
    if type(value) is list:
        return b"l%d:" % len(value) + b"".join([canonical(v, files) for v in value])
    if type(value) is tuple:
        return b"t%d:" % len(value) + b"".join([canonical(v, files) for v in value])
    if isinstance(value, Bound):
        return value.identity
    if isinstance(value, tuple | list):
        return b"u%d:" % len(value) + _name(value) + b"".join([canonical(v, files) for v in value])
    if hasattr(value, "keys") and hasattr(value, "__getitem__"):
        items = sorted((canonical(k, files), canonical(value[k], files)) for k in value)
        return b"d%d:" % len(items) + b"".join([k + v for k, v in items])
    if isinstance(value, Path):
        return b"p" + (files or FileDigests()).digest(value)
    if isinstance(value, frozenset | set):
        return b"e%d:" % len(value) + b"".join(sorted(canonical(v, files) for v in value))
    array = _array(value)
    if array is not None:
        return array
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
        return b"o" + _name(value) + b"%d:" % len(fields) + b"".join([_text(n) + canonical(v, files) for n, v in fields])
    identity = getattr(value, "__weft_identity__", None)
    if identity is not None:
        return b"w" + _name(value) + canonical(identity() if callable(identity) else identity, files)
    msg = f"a value of type {type(value).__module__}.{type(value).__qualname__} has no canonical bytes, so no key can name it"
    raise UnencodableValue(msg)


def keys(
    checked: Checked,
    files: FileDigests,
    *,
    salt: bytes = b"",
    known: Mapping[str, bytes] | None = None,
    stale: Iterable[str] | None = None,
    outer: Mapping[str, bytes] | None = None,
) -> dict[str, bytes]:
    """The key of every node of a checked graph.

    Args:
        checked: The graph.
        files: Digests of the files that inputs name.
        salt: Whatever else every result depends on (device class, number format).
        known: Keys of an earlier version of the graph.
        stale: Ids whose own inputs are not those of the earlier version; all others keep their keys unless they are
            downstream of one. Everything is computed when `known` is None.
        outer: Keys of nodes around the graph that its links may lead to; they are part of the answer.
    """
    result: dict[str, bytes] = dict(known if known is not None else outer or {})
    nodes = checked.nodes
    if known is not None:
        dirty = set(stale or ())
        if not dirty:
            return result
        for node_id in known.keys() - nodes.keys():
            del result[node_id]
        dirty = checked.downstream(dirty)
        todo: Iterable[CheckedNode] = [node for node_id, node in nodes.items() if node_id in dirty]
    else:
        todo = nodes.values()
    blake2b = hashlib.blake2b
    encoders = _ENCODERS
    for node in todo:
        literals, links, kind = node.literals, node.links, node.kind
        names = _NAMES_OF.get(kind)
        if names is None:
            names = _NAMES_OF[kind] = _prepare(kind)
        parts = [salt, names.head]
        for name, encoded in names.inputs:
            link = links.get(name)
            if link is not None:
                parts.append(b"%bk%b%d;" % (encoded, result[link[0]], link[1]))
            elif name in literals:
                value = literals[name]
                encode = encoders.get(type(value))
                parts.append(encoded)
                parts.append(encode(value) if encode is not None else canonical(value, files))
        if kind.variadic is not None:
            parts.extend(_extra(node, names.known, result, files))
        if kind.is_dynamic:
            parts.extend(node.dependencies(files))
        result[node.id] = blake2b(b"".join(parts), digest_size=KEY_BYTES).digest()
    return result


def link_identity(key: bytes, port: int, element: int | None = None) -> bytes:
    """Canonical bytes of an output of the call `key`, or of one element of a list output."""
    return b"k%b%d;" % (key, port) + (b"" if element is None else b"[%d]" % element)


class _Names(NamedTuple):
    """What the keys of all nodes of a kind share: an encoded head and the encoded input names, sorted."""

    head: bytes
    inputs: tuple[tuple[str, bytes], ...]
    known: frozenset[str]


_NAMES_OF: dict[Kind, _Names] = {}


def _prepare(kind: Kind) -> _Names:
    head = _VERSION + _text(kind.id) + b"v%d;" % kind.version
    return _Names(head, tuple((name, _text(name)) for name in sorted(kind.inputs)), frozenset(kind.inputs))


def _extra(node: CheckedNode, known: frozenset[str], keys: Mapping[str, bytes], files: FileDigests) -> list[bytes]:
    names = sorted((node.literals.keys() | node.links.keys()) - known)
    parts = []
    for name in names:
        link = node.links.get(name)
        value = link_identity(keys[link[0]], link[1]) if link is not None else canonical(node.literals[name], files)
        parts.append(b"+" + _text(name) + value)
    return parts


def _name(value: object) -> bytes:
    return _text(f"{type(value).__module__}.{type(value).__qualname__}")


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"s%d:" % len(data) + data


def _float(value: float) -> bytes:
    return b"f" + struct.pack(">d", value if value == value else float("nan"))  # noqa: PLR0124 - all NaNs are one value


def _int(value: int) -> bytes:
    return b"i%d;" % value


def _bool(value: bool) -> bytes:  # noqa: FBT001 - an encoder takes the value it encodes
    return b"T" if value else b"F"


def _none(_: None) -> bytes:
    return b"N"


def _bytes(value: bytes) -> bytes:
    return b"b%d:" % len(value) + value


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    int: _int,
    float: _float,
    bool: _bool,
    str: _text,
    type(None): _none,
    bytes: _bytes,
}


def _array(value: Any) -> bytes | None:
    """Bytes of a torch tensor or numpy array: type, shape, content. None if it is neither."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        plain = value.detach().cpu().contiguous()
        content = plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
        kind = f"torch.{plain.dtype}"
    else:
        numpy = sys.modules.get("numpy")
        if numpy is None or not isinstance(value, numpy.ndarray | numpy.generic) or value.dtype.hasobject:
            return None
        content, kind = value.tobytes(), f"numpy.{type(value).__name__}.{value.dtype.str}"
    shape = ",".join(map(str, value.shape))
    return b"a" + _text(kind) + _text(shape) + hashlib.sha256(content).digest()
