"""Workflows from files: JSON, or what carries one: a PNG or WebP picture, a latent or model in safetensors.

Of those only the headers and the texts of the workflow are read, whatever their size; nothing is decoded.
"""

from __future__ import annotations

import io
import json
import marshal
import struct
import sys
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from engine.errors import FormatError
from engine.formats.api import MARSHAL_VERSION, MAX_BYTES, is_api, parse_json, read_api
from engine.formats.members import read_members
from engine.graph import Graph, Link, Node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.schema import Catalog

_FORGET = 4  # remember nodes of at most this many workflows of the present size
_FEW = 1000  # nodes that are remembered anyway
_PNG = b"\x89PNG\r\n\x1a\n"
_WEBP_BYTES = 12  # RIFF, size, WEBP
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt", b"comf"})  # ComfyUI's moving pictures have chunks of their own
_NAMES = ("prompt", "workflow")  # the texts of a picture that are read
_KEYWORD_BYTES = 80  # of a PNG text: at most 79 and a zero
_MAX_CHUNKS = 1_000_000
_MAX_ENTRIES = 256  # of an EXIF directory
_PIECE_BYTES = 1 << 20


class Reader:
    """Reads workflows one after another; what did not change since the last comes back as the same objects."""

    def __init__(self, catalog: Catalog | None = None) -> None:
        self._catalog = catalog
        self._content: bytes | dict[str, str] | None = None
        self._graph = Graph()
        self._known: dict[str, tuple[bytes, Node]] = {}
        self._texts: dict[str, tuple[str, Node]] = {}

    def read(self, workflow: Mapping[str, Any] | str | Path | Graph) -> Graph:
        """A graph from whatever names a workflow, see `load`.

        Raises:
            FormatError: if it is no workflow; the message names file and place.
        """
        if isinstance(workflow, Graph):
            return workflow
        if not isinstance(workflow, str | Path):
            try:
                graph = _graph(dict(workflow), "workflow", self._catalog, self._known)
            except ValueError:  # it holds values that are no JSON: they cannot be remembered
                return _graph(dict(workflow), "workflow", self._catalog)
            self._forget(graph)
            return graph
        source, content = _content(workflow)
        if content != self._content:
            read = read_members(content, self._texts, source=source) if isinstance(content, bytes) else None
            self._graph = read if read is not None else _from_content(content, source, self._catalog, self._known)
            self._content = content
            self._forget(self._graph)
        return self._graph

    def _forget(self, graph: Graph) -> None:
        """Forget nodes of earlier workflows where they are many more than those of `graph`."""
        limit = _FORGET * max(len(graph), _FEW)
        if len(self._known) > limit:
            self._known = {i: self._known[i] for i in graph.nodes if i in self._known}
        if len(self._texts) > limit:
            self._texts = {i: self._texts[i] for i in graph.nodes if i in self._texts}


def load(workflow: Mapping[str, Any] | str | Path | Graph, catalog: Catalog | None = None) -> Graph:
    """A graph from whatever names a workflow.

    Args:
        workflow: A parsed document in either format, a path (`-` reads standard input), or a graph.
        catalog: The installed kinds: they say what the widget values of the page's own format mean.

    Raises:
        FormatError: if it is no workflow; the message names file and place.
    """
    if isinstance(workflow, Graph):
        return workflow
    if isinstance(workflow, str | Path):
        source, content = _content(workflow)
        return _from_content(content, source, catalog)
    return _graph(dict(workflow), "workflow", catalog)


def loads(data: bytes | str, catalog: Catalog | None = None, *, source: str = "workflow") -> Graph:
    """A graph from the bytes of a JSON, PNG or WebP file.

    Args:
        data: The bytes.
        catalog: The installed kinds, see `load`.
        source: What to call them in errors.

    Raises:
        FormatError: if they hold no workflow.
    """
    if isinstance(data, bytes):
        if data.startswith(_PNG):
            return _from_content(png_texts(data, source=source), source, catalog)
        if _is_webp(data):
            return _from_content(webp_texts(data, source=source), source, catalog)
        if _is_safetensors(data[:_WEBP_BYTES]):
            return _from_content(_read(io.BytesIO(data), source), source, catalog)
    return _graph(parse_json(data, source=source), source, catalog, is_ours=True)


def _content(workflow: str | Path) -> tuple[str, bytes | dict[str, str]]:
    """(name, content) of a workflow file: the bytes of a document, or the texts of a picture."""
    if str(workflow) == "-":
        return "standard input", _read(sys.stdin.buffer, "standard input")
    path = Path(workflow)
    source = str(path)
    try:
        with path.open("rb") as file:
            return source, _read(file, source)
    except OSError as cause:
        msg = f"cannot read the workflow: {cause.strerror or cause}"
        raise FormatError(msg, source=source) from cause
    except ValueError as cause:  # a path with a zero in it, or with half of a surrogate pair
        msg = f"cannot read the workflow: {cause}"
        raise FormatError(msg, source=repr(source)) from cause


def _read(file: IO[bytes], source: str) -> bytes | dict[str, str]:
    head = file.read(_WEBP_BYTES)
    if head.startswith(_PNG):
        return _png_texts(file, source, head[len(_PNG) :])
    if _is_webp(head):
        return _webp_texts(file, source)
    if _is_safetensors(head):
        return _safetensors_texts(head[8:], int.from_bytes(head[:8], "little"), file, source)
    return head + file.read(MAX_BYTES + 1 - len(head))


def _from_content(
    content: bytes | dict[str, str],
    source: str,
    catalog: Catalog | None,
    known: dict[str, tuple[bytes, Node]] | None = None,
) -> Graph:
    if isinstance(content, bytes):
        return _graph(parse_json(content, source=source), source, catalog, known, is_ours=True)
    if "prompt" not in content:
        if "workflow" not in content:
            msg = "it carries no workflow"
            raise FormatError(msg, source=source)
        document = parse_json(content["workflow"], source=f"{source} (workflow)")
        return _graph(document, source, catalog, known, is_ours=True)
    extra: dict[str, Any] = {}
    if "workflow" in content:
        extra["workflow"] = parse_json(content["workflow"], source=f"{source} (workflow)")
    document = parse_json(content["prompt"], source=f"{source} (prompt)")
    return read_api(document, source=source, extra=extra, known=known, is_ours=True)


def _graph(
    document: Any,
    source: str,
    catalog: Catalog | None,
    known: dict[str, tuple[bytes, Node]] | None = None,
    *,
    is_ours: bool = False,
) -> Graph:
    if isinstance(document, dict):
        inner = document.get("prompt")
        if "class_type" not in document and isinstance(inner, dict) and is_api(inner):
            return read_api(inner, source=source, known=known, is_ours=is_ours)  # the body of a request to a server
        if isinstance(document.get("nodes"), list) and "class_type" not in document:
            return _page_graph(document if is_ours else _copied(document, source), source, catalog, known)
    return read_api(document, source=source, known=known, is_ours=is_ours)


def _copied(document: dict[str, Any], source: str) -> Any:
    """A copy of a document that others may edit."""
    try:
        return json.loads(json.dumps(document))
    except (TypeError, ValueError, RecursionError) as cause:
        msg = f"not a JSON document: {cause}"
        raise FormatError(msg, source=source) from cause


def _page_graph(
    document: dict[str, Any], source: str, catalog: Catalog | None, known: dict[str, tuple[bytes, Node]] | None
) -> Graph:
    """The graph of a document in the page's own format; nodes that mean the same as before are the same objects."""
    from engine.formats.ui import read_ui

    graph = read_ui(document, catalog, source=source)
    if known is None:
        return graph
    nodes: dict[str, Node] = {}
    for node_id, node in graph.nodes.items():
        inputs = {n: tuple(v) if type(v) is Link else v for n, v in node.inputs.items()}
        raw = marshal.dumps((node.kind, node.title, inputs), MARSHAL_VERSION)
        before = known.get(node_id)
        if before is None or before[0] != raw:
            known[node_id] = before = raw, node
        nodes[node_id] = before[1]
    return Graph(nodes, graph.extra)


def png_texts(data: bytes, *, source: str = "picture") -> dict[str, str]:
    """The texts `prompt` and `workflow` of a PNG (tEXt, zTXt, iTXt, and the private comf of moving ones).

    Raises:
        FormatError: if one is cut off, damaged, or too large.
    """
    return _png_texts(io.BytesIO(data[len(_PNG) :]), source)


def webp_texts(data: bytes, *, source: str = "picture") -> dict[str, str]:
    """The `prompt:` and `workflow:` texts in the EXIF chunk of a WebP.

    Raises:
        FormatError: if the chunk is damaged or too large.
    """
    return _webp_texts(io.BytesIO(data[_WEBP_BYTES:]), source)


def _is_safetensors(head: bytes) -> bool:
    """Whether a file begins with the size of a header and the header; no text of JSON holds a zero."""
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") < 1 << 56


def _safetensors_texts(begun: bytes, size: int, file: IO[bytes], source: str) -> dict[str, str]:
    """The texts in the metadata of a safetensors file, of whose header `begun` is read already."""
    if size > MAX_BYTES:
        raise _too_large(source)
    header = begun[:size] + file.read(size - len(begun))
    if len(header) < size:
        msg = "the safetensors file is cut off inside its header"
        raise FormatError(msg, source=source)
    parsed = parse_json(header, source=f"{source} (header)")
    found = parsed.get("__metadata__") if isinstance(parsed, dict) else None
    return {name: text for name in _NAMES if isinstance(found, dict) and isinstance(text := found.get(name), str)}


def _is_webp(head: bytes) -> bool:
    return head.startswith(b"RIFF") and head[8:12] == b"WEBP"


def _png_texts(file: IO[bytes], source: str, head: bytes = b"") -> dict[str, str]:
    """The texts of a PNG that is read from after its signature; `head` is what is read of the first chunk already."""
    texts: dict[str, str] = {}
    budget = MAX_BYTES
    offset = len(_PNG)
    for _ in range(_MAX_CHUNKS):
        head += file.read(8 - len(head))
        if len(head) < 8:
            return texts
        size, kind = struct.unpack(">I4s", head)
        head = b""
        if kind == b"IEND":
            return texts
        body = b""
        if kind in _TEXTS:
            body = file.read(min(size, _KEYWORD_BYTES))
            keyword, _zero, _text = body.partition(b"\0")
            name = keyword.decode("latin-1")
            if name in _NAMES:
                if size > budget + _PIECE_BYTES:
                    raise _too_large(source)
                body += file.read(size - len(body))
                if len(body) < size:
                    msg = f"the PNG is cut off inside its {kind.decode('latin-1')} chunk"
                    raise FormatError(msg, source=source, offset=offset)
                text = _text_of(kind, body, budget, source)
                budget -= len(text)
                if budget < 0:
                    raise _too_large(source)
                texts[name] = text.decode("utf-8", "replace") if kind == b"iTXt" else text.decode("latin-1")
        _skip(file, size - len(body) + 4)
        offset += size + 12
    msg = f"the PNG has more than {_MAX_CHUNKS:,} chunks"
    raise FormatError(msg, source=source)


def _text_of(kind: bytes, body: bytes, budget: int, source: str) -> bytes:
    """The text in a chunk with its keyword; at most `budget + 1` bytes are inflated."""
    _, _, rest = body.partition(b"\0")
    if kind in {b"tEXt", b"comf"}:
        return rest
    if kind == b"zTXt":
        return _inflate(rest[1:], budget, source)
    is_compressed, rest = rest[:1] == b"\1", rest[2:]
    _language, _, rest = rest.partition(b"\0")
    _translated, _, rest = rest.partition(b"\0")
    return _inflate(rest, budget, source) if is_compressed else rest


def _inflate(data: bytes, budget: int, source: str) -> bytes:
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, budget + 1)
    except zlib.error as cause:
        msg = f"a compressed text of the PNG is damaged: {cause}"
        raise FormatError(msg, source=source) from cause
    if len(text) > budget:
        raise _too_large(source)
    if not inflater.eof:
        msg = "a compressed text of the PNG is damaged: it is cut off"
        raise FormatError(msg, source=source)
    return text


def _webp_texts(file: IO[bytes], source: str) -> dict[str, str]:
    """The texts of a WebP that is read from its first chunk."""
    for _ in range(_MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            return {}
        kind, size = struct.unpack("<4sI", head)
        if kind == b"EXIF":
            if size > MAX_BYTES:
                raise _too_large(source)
            return _exif_texts(file.read(size).removeprefix(b"Exif\0\0"), source)
        _skip(file, size + (size & 1))
    msg = f"the WebP has more than {_MAX_CHUNKS:,} chunks"
    raise FormatError(msg, source=source)


def _exif_texts(exif: bytes, source: str) -> dict[str, str]:
    """ASCII entries `prompt:text` and `workflow:text` among the first 256 of the first directory."""
    texts: dict[str, str] = {}
    budget = MAX_BYTES
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        if order is None:
            msg = "the EXIF data of the WebP is damaged"
            raise FormatError(msg, source=source)
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for i in range(min(count, _MAX_ENTRIES)):
            _tag, kind, size, value = struct.unpack_from(order + "HHII", exif, start + 2 + 12 * i)
            if kind != 2 or size <= 4:
                continue
            for name in _NAMES:
                begin = value + len(name) + 1
                if exif[value:begin].lower() != f"{name}:".encode():
                    continue
                budget -= size  # entries may share their bytes
                if budget < 0:
                    raise _too_large(source)
                texts[name] = exif[begin : value + size].rstrip(b"\0").decode("utf-8", "replace")
    except struct.error as cause:
        msg = "the EXIF data of the WebP is damaged"
        raise FormatError(msg, source=source) from cause
    return texts


def _skip(file: IO[bytes], size: int) -> None:
    if file.seekable():
        file.seek(size, io.SEEK_CUR)
        return
    while size > 0:
        piece = file.read(min(size, _PIECE_BYTES))
        if not piece:
            return
        size -= len(piece)


def _too_large(source: str) -> FormatError:
    return FormatError(f"the texts of the picture have more than {MAX_BYTES:,} bytes", source=source)
