"""Workflows from files: JSON, or a PNG or WebP picture that carries one.

Only the headers of a picture are read; nothing is decoded.
"""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import FormatError
from engine.formats.api import MAX_BYTES, is_api, parse_json, read_api
from engine.graph import Graph, Node

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FORGET = 4  # remember nodes of at most this many workflows of the present size
_PNG = b"\x89PNG\r\n\x1a\n"


class Reader:
    """Reads workflows one after another; what did not change since the last comes back as the same objects."""

    def __init__(self) -> None:
        self._data: bytes | None = None
        self._graph = Graph()
        self._known: dict[str, tuple[bytes, Node]] = {}

    def read(self, workflow: Mapping[str, Any] | str | Path | Graph) -> Graph:
        """A graph from whatever names a workflow, see `load`.

        Raises:
            FormatError: if it is no workflow; the message names file and place.
        """
        if isinstance(workflow, Graph):
            return workflow
        if not isinstance(workflow, str | Path):
            try:
                return _graph(dict(workflow), "workflow", self._known)
            except ValueError:  # it holds values that are no JSON: they cannot be remembered
                return _graph(dict(workflow), "workflow")
        source, data = _bytes(workflow)
        if data != self._data:
            self._graph = loads(data, source=source, known=self._known)
            self._data = data
            if len(self._known) > _FORGET * len(self._graph):
                self._known = {i: self._known[i] for i in self._graph.nodes if i in self._known}
        return self._graph


def load(workflow: Mapping[str, Any] | str | Path | Graph) -> Graph:
    """A graph from whatever names a workflow.

    Args:
        workflow: A parsed document, a path (`-` reads standard input), or a graph.

    Raises:
        FormatError: if it is no workflow; the message names file and place.
    """
    if isinstance(workflow, Graph):
        return workflow
    if isinstance(workflow, str | Path):
        source, data = _bytes(workflow)
        return loads(data, source=source)
    return _graph(dict(workflow), "workflow")


def loads(data: bytes | str, *, source: str = "workflow", known: dict[str, tuple[bytes, Node]] | None = None) -> Graph:
    """A graph from the bytes of a JSON, PNG or WebP file.

    Args:
        data: The bytes.
        source: What to call them in errors.
        known: Nodes of an earlier version, see `read_api`.

    Raises:
        FormatError: if they hold no workflow.
    """
    if isinstance(data, bytes):
        if data.startswith(_PNG):
            return _from_picture(png_texts(data, source=source), source)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _from_picture(webp_texts(data, source=source), source)
    document = parse_json(data, source=source)
    return _graph(document, source, known)


def _bytes(workflow: str | Path) -> tuple[str, bytes]:
    """(name, content) of a workflow file."""
    if str(workflow) == "-":
        return "standard input", sys.stdin.buffer.read(MAX_BYTES + 1)
    path = Path(workflow)
    try:
        with path.open("rb") as file:
            return str(path), file.read(MAX_BYTES + 1)
    except OSError as cause:
        msg = f"cannot read the workflow: {cause.strerror or cause}"
        raise FormatError(msg, source=str(path)) from cause


def _graph(document: Any, source: str, known: dict[str, tuple[bytes, Node]] | None = None) -> Graph:
    if isinstance(document, dict):
        inner = document.get("prompt")
        if "class_type" not in document and isinstance(inner, dict) and is_api(inner):
            return read_api(inner, source=source, known=known)  # the body of a request to a server
        if isinstance(document.get("nodes"), list) and "class_type" not in document:
            msg = "this is a workflow in the page's own format; save it in the API format (Export (API)) to run it"
            raise FormatError(msg, source=source)
    return read_api(document, source=source, known=known)


def _from_picture(texts: Mapping[str, str], source: str) -> Graph:
    if "prompt" not in texts:
        what = "only a workflow in the page's own format" if "workflow" in texts else "no workflow"
        msg = f"the picture carries {what}"
        raise FormatError(msg, source=source)
    extra: dict[str, Any] = {}
    if "workflow" in texts:
        extra["workflow"] = parse_json(texts["workflow"], source=f"{source} (workflow)")
    return read_api(parse_json(texts["prompt"], source=f"{source} (prompt)"), source=source, extra=extra)


def png_texts(data: bytes, *, source: str = "picture") -> dict[str, str]:
    """The text chunks of a PNG by keyword (tEXt, zTXt, iTXt).

    Raises:
        FormatError: if a chunk is cut off.
    """
    texts: dict[str, str] = {}
    for kind, body in _png_chunks(data, source):
        if kind not in {b"tEXt", b"zTXt", b"iTXt"}:
            continue
        keyword, _, rest = body.partition(b"\0")
        name = keyword.decode("latin-1")
        if kind == b"tEXt":
            texts[name] = rest.decode("latin-1")
        elif kind == b"zTXt":
            texts[name] = _inflate(rest[1:], source).decode("latin-1")
        else:
            compressed, rest = rest[:1] == b"\1", rest[2:]
            _language, _, rest = rest.partition(b"\0")
            _translated, _, rest = rest.partition(b"\0")
            texts[name] = (_inflate(rest, source) if compressed else rest).decode("utf-8", "replace")
    return texts


def webp_texts(data: bytes, *, source: str = "picture") -> dict[str, str]:
    """The `prompt:` and `workflow:` texts in the EXIF chunk of a WebP.

    Raises:
        FormatError: if the chunk is damaged.
    """
    offset = 12
    while offset + 8 <= len(data):
        kind, size = data[offset : offset + 4], int.from_bytes(data[offset + 4 : offset + 8], "little")
        if kind == b"EXIF":
            return _exif_texts(data[offset + 8 : offset + 8 + size].removeprefix(b"Exif\0\0"), source)
        offset += 8 + size + (size & 1)
    return {}


def _png_chunks(data: bytes, source: str) -> Iterator[tuple[bytes, bytes]]:
    offset = len(_PNG)
    while offset + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, offset)
        end = offset + 8 + size
        if end + 4 > len(data):
            msg = f"the PNG is cut off inside its {kind.decode('latin-1')} chunk"
            raise FormatError(msg, source=source, offset=offset)
        if kind == b"IEND":
            return
        yield kind, data[offset + 8 : end]
        offset = end + 4


def _inflate(data: bytes, source: str) -> bytes:
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, MAX_BYTES)
    except zlib.error as cause:
        msg = f"a compressed text of the PNG is damaged: {cause}"
        raise FormatError(msg, source=source) from cause
    if inflater.unconsumed_tail:
        msg = f"a text of the PNG is larger than {MAX_BYTES:,} bytes"
        raise FormatError(msg, source=source)
    return text


def _exif_texts(exif: bytes, source: str) -> dict[str, str]:
    """ASCII entries of the first directory that read `name:text`."""
    texts: dict[str, str] = {}
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        if order is None:
            msg = "the EXIF data of the WebP is damaged"
            raise FormatError(msg, source=source)
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for i in range(count):
            _tag, kind, size, value = struct.unpack_from(order + "HHII", exif, start + 2 + 12 * i)
            if kind == 2 and size > 4:
                text = exif[value : value + size].rstrip(b"\0").decode("utf-8", "replace")
                name, colon, rest = text.partition(":")
                if colon and name.lower() in {"prompt", "workflow"}:
                    texts[name.lower()] = rest
    except struct.error as cause:
        msg = "the EXIF data of the WebP is damaged"
        raise FormatError(msg, source=source) from cause
    return texts
