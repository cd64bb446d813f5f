"""An API document read from its text, node by node, so that a node whose text stands as before is not parsed again.

What a person edits between two runs is a node or two; the rest of the file is letter by letter the same. The text of a
node is an object, which ends where it ends: text that begins with it means it, wherever it stands.
"""

from __future__ import annotations

import gc
import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined] # its C version, which json itself uses
from typing import TYPE_CHECKING, Any

from engine.errors import FormatError
from engine.formats.api import MAX_BYTES, MAX_NODES, read_node
from engine.graph import Graph, Node

if TYPE_CHECKING:
    from collections.abc import Callable

_START = re.compile(r"[ \t\n\r]*\{[ \t\n\r]*")
_NEXT = re.compile(r'[ \t\n\r]*,[ \t\n\r]*(?=")')
_END = re.compile(r"[ \t\n\r]*\}[ \t\n\r]*")
_COLON = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")

_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined] # what json itself uses


def read_members(data: bytes, known: dict[str, tuple[str, Node]], *, source: str) -> Graph | None:
    """The graph of an API document, or None where its text is anything else: whoever reads it then says what is wrong.

    Args:
        data: The bytes of a file.
        known: Id to the text of a node and the node, of earlier versions; brought up to date. A node of the same text
            comes back as the same object.
        source: What to call the document in errors.
    """
    if len(data) > MAX_BYTES:
        return None
    was_enabled = gc.isenabled()
    gc.disable()  # see `parse_json`
    try:
        return _members(data.decode(), known, source)
    except (ValueError, StopIteration, RecursionError, FormatError):
        return None
    finally:
        if was_enabled:
            gc.enable()


def _members(text: str, known: dict[str, tuple[str, Node]], source: str) -> Graph | None:
    following, colon = _NEXT.match, _COLON.match
    start = _START.match(text)
    if start is None or not text.startswith('"', start.end()):
        return None
    nodes: dict[str, Node] = {}
    place = start.end()
    while True:
        node_id, place = scanstring(text, place + 1, True)
        between = colon(text, place)
        if between is None:
            return None
        place = between.end()
        before = known.get(node_id)
        if before is not None and text.startswith(before[0], place):
            nodes[node_id] = before[1]
            place += len(before[0])
        else:
            record, end = _scan(text, place)
            if type(record) is not dict or "class_type" not in record or not node_id.isascii():
                return None
            nodes[node_id] = node = read_node(node_id, record, source, is_ours=True)
            known[node_id] = text[place:end], node
            place = end
        comma = following(text, place)
        if comma is None:
            break
        place = comma.end()
    end_of_text = _END.fullmatch(text, place)
    return Graph(nodes) if end_of_text is not None and len(nodes) <= MAX_NODES else None
