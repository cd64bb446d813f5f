"""`--save NODE[:PORT]=FILE`: the value of any port as a file."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.cli.console import Refused
from engine.errors import WeftError

if TYPE_CHECKING:
    from engine.graph import Graph
    from engine.result import Value
    from engine.schema import Catalog

PICTURES = {".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG", ".jpeg": "JPEG"}
_PICTURED = frozenset({"IMAGE", "MASK"})
_PLAIN = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})


class Request(NamedTuple):
    """A value that is to be written.

    Attributes:
        node: Id of the node.
        port: Index of the output.
        path: The file.
    """

    node: str
    port: int
    path: Path


def request(graph: Graph, catalog: Catalog, text: str) -> Request:
    """What `NODE[:PORT]=FILE` asks for.

    Raises:
        Refused: if there is no such node or output, or the file cannot hold what it gives.
    """
    place, equals, name = text.partition("=")
    if not equals or not place or not name:
        msg = f"--save {text!r} is not NODE[:PORT]=FILE"
        raise Refused(msg)
    node, port = _node_and_port(graph, place)
    kind = catalog.get(graph[node].kind)
    if kind is None:
        return Request(node, 0, Path(name))  # validation says that the kind is not installed
    index = kind.output_index(int(port) if port.isdecimal() else port)
    if index is None:
        names = ", ".join(f"{i} {o.name}" for i, o in enumerate(kind.outputs)) or "none"
        msg = f"--save {text!r}: node {node} ({kind.id}) has no output {port!r}; its outputs: {names}"
        raise Refused(msg)
    given, suffix = kind.outputs[index].type, Path(name).suffix.lower()
    if (suffix in PICTURES and given not in _PICTURED | {"*"}) or (suffix == ".safetensors" and given in _PLAIN):
        msg = f"--save {text!r}: a {given} cannot be written as {suffix}"
        raise Refused(msg)
    return Request(node, index, Path(name))


def _node_and_port(graph: Graph, place: str) -> tuple[str, str]:
    """The node and the port that `NODE[:PORT]` means; a title may hold colons itself."""
    try:
        return graph.find(place), "0"
    except WeftError as cause:
        node, colon, port = place.rpartition(":")
        if not colon:
            raise Refused(str(cause)) from cause
        try:
            return graph.find(node), port
        except WeftError as second:
            raise Refused(str(second)) from second


def save(value: Value, path: Path) -> list[Path]:
    """Write a value: pictures as pictures, tensors as safetensors, the rest as JSON; the suffix may say otherwise.

    The elements of a list and the pictures of a batch are numbered: `face.png` becomes `face_00001.png`, ...

    Returns:
        The files written.

    Raises:
        WeftError: if the file cannot hold the value.
    """
    from engine.cache.values import Listed

    if isinstance(value.value, Listed):
        parts: list[Any] = [type(value)(element, value.type) for element in value.value]
        return [p for i, part in enumerate(parts, 1) for p in save(part, _numbered(path, i, len(parts)))]
    suffix = path.suffix.lower()
    if suffix in PICTURES or (value.type in _PICTURED and suffix not in {".safetensors", ".json", ".txt"}):
        return _save_pictures(value, path)
    if suffix == ".safetensors" or (suffix not in {".json", ".txt"} and _has_tensors(value)):
        return [_write(path, _tensor_bytes(value))]
    if suffix == ".txt" and isinstance(value.value, str):
        return [_write(path, value.value.encode())]
    try:
        text = json.dumps(value.value, ensure_ascii=False, indent=2)
    except (TypeError, ValueError) as cause:
        msg = f"cannot write a {value.type} to {path}: {cause}; use a file name that ends in .safetensors"
        raise WeftError(msg) from cause
    return [_write(path, (text + "\n").encode())]


def _has_tensors(value: Value) -> bool:
    return hasattr(value.value, "tensors") or (hasattr(value.value, "shape") and hasattr(value.value, "dtype"))


def _tensor_bytes(value: Value) -> bytes:
    import safetensors.torch

    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in value.tensors().items()}
    return safetensors.torch.save(tensors)  # type: ignore[no-any-return]


def _save_pictures(value: Value, path: Path) -> list[Path]:
    from engine.media import to_pil

    batch = value.value
    if getattr(batch, "ndim", 0) == 3:
        batch = batch.unsqueeze(-1)
    if getattr(batch, "ndim", 0) != 4:
        msg = f"cannot write a {value.type} to {path}: it is no picture; use a file name that ends in .safetensors or .json"
        raise WeftError(msg)
    written = []
    for i, picture in enumerate(batch, 1):
        buffer = io.BytesIO()
        kind = PICTURES.get(path.suffix.lower(), "PNG")
        drawn = to_pil(picture)
        (drawn.convert("RGB") if kind == "JPEG" else drawn).save(buffer, kind)
        written.append(_write(_numbered(path, i, len(batch)), buffer.getvalue()))
    return written


def _numbered(path: Path, number: int, count: int) -> Path:
    return path if count == 1 else path.with_name(f"{path.stem}_{number:05}{path.suffix}")


def _write(path: Path, content: bytes) -> Path:
    """Write a file so that it appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        scratch.write_bytes(content)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    return path
