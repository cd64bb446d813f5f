"""The API format: a JSON object from node id to kind and inputs.

A link is an array of a string and a whole number; `{"__value__": [...]}` is an array that is no link. Whatever else a
node says (`_meta`, unknown members) is kept and written back.
"""

from __future__ import annotations

import gc
import json
import marshal
import math
from typing import TYPE_CHECKING, Any

from engine.errors import FormatError
from engine.graph import Graph, Link, Node

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BYTES = 64 * 1024 * 1024
"""The largest document that is parsed."""

MAX_NODES = 10_000
"""The most nodes of a workflow."""

MAX_DEPTH = 64
"""How deep arrays and objects may nest."""

_MARSHAL_VERSION = 2  # the last without references between objects: equal records have equal bytes, and `1` is not `1.0`
_NEW = tuple.__new__  # a Link without the detour through its constructor: half of the time of reading a link
_KNOWN = frozenset({"class_type", "inputs", "_meta"})
_DROPPED = frozenset({"is_changed"})  # written by servers for themselves; trusting it would skip work that is due


def parse_json(data: bytes | str, *, source: str = "workflow") -> Any:
    """Parse JSON, accepting the bare `NaN` and `Infinity` that saved pictures hold.

    Raises:
        FormatError: with the offset, if it is not JSON, too large, or nested too deeply.
    """
    if len(data) > MAX_BYTES:
        msg = f"the document has {len(data):,} bytes; the limit is {MAX_BYTES:,}"
        raise FormatError(msg, source=source)
    was_enabled = gc.isenabled()
    gc.disable()  # a parse makes no garbage; collections in its middle cost half of its time
    try:
        return json.loads(data)
    except json.JSONDecodeError as cause:
        msg = f"not JSON: {cause.msg} (line {cause.lineno}, column {cause.colno})"
        raise FormatError(msg, source=source, offset=cause.pos) from cause
    except UnicodeDecodeError as cause:
        msg = f"not text: {cause.reason}"
        raise FormatError(msg, source=source, offset=cause.start) from cause
    except RecursionError as cause:
        msg = f"arrays and objects nest deeper than {MAX_DEPTH}"
        raise FormatError(msg, source=source) from cause
    except ValueError as cause:
        msg = f"not JSON: {cause}"
        raise FormatError(msg, source=source) from cause
    finally:
        if was_enabled:
            gc.enable()


def is_api(document: Any) -> bool:
    """Whether a parsed document is in the API format: an object whose every member has a `class_type`."""
    return isinstance(document, dict) and all(isinstance(v, dict) and "class_type" in v for v in document.values())


def read_api(
    document: Any,
    *,
    source: str = "workflow",
    extra: Mapping[str, Any] | None = None,
    known: dict[str, tuple[bytes, Node]] | None = None,
) -> Graph:
    """A graph from a parsed API document.

    Args:
        document: The parsed JSON.
        source: What to call it in errors.
        extra: Kept as the graph's `extra`.
        known: Nodes of an earlier version by id, with what they were read from. A node that reads the same comes back as
            the same object, so that comparing versions costs nothing; this mapping is brought up to date.

    Raises:
        FormatError: if it is no API document; the message names the node.
    """
    if not isinstance(document, dict):
        msg = f"expected an object of nodes, not {_type(document)}"
        raise FormatError(msg, source=source)
    if len(document) > MAX_NODES:
        msg = f"the workflow has {len(document):,} nodes; the limit is {MAX_NODES:,}"
        raise FormatError(msg, source=source)
    nodes: dict[str, Node] = {}
    for node_id, record in document.items():
        if known is not None:
            raw = marshal.dumps(record, _MARSHAL_VERSION)
            before = known.get(node_id)
            if before is not None and before[0] == raw:
                nodes[node_id] = before[1]
                continue
            known[node_id] = raw, _node(node_id, record, source)
            nodes[node_id] = known[node_id][1]
        else:
            nodes[node_id] = _node(node_id, record, source)
    return Graph(nodes, dict(extra)) if extra else Graph(nodes)


def _node(node_id: str, record: Any, source: str) -> Node:
    if type(record) is not dict:
        msg = f"node {node_id!r} is {_type(record)}, not an object"
        raise FormatError(msg, source=source)
    kind = record.get("class_type")
    if type(kind) is not str:
        what = "has no class_type" if kind is None else f"has {_type(kind)} as class_type"
        msg = f"node {node_id!r} {what}"
        raise FormatError(msg, source=source)
    given = record.get("inputs")
    if given is None:
        given = {}
    elif type(given) is not dict:
        msg = f"the inputs of node {node_id!r} are {_type(given)}, not an object"
        raise FormatError(msg, source=source)
    inputs = given
    for name, value in given.items():
        kind_of_value = type(value)
        if kind_of_value is list or kind_of_value is dict:
            if inputs is given:
                inputs = dict(given)
            if kind_of_value is list and len(value) == 2 and type(value[0]) is str and type(value[1]) is int and value[1] >= 0:
                inputs[name] = _NEW(Link, value)
            else:
                inputs[name] = _value(value, f"input {name!r} of node {node_id!r}", source)
        elif kind_of_value is str and not value.isascii():
            _check_text(value, f"input {name!r} of node {node_id!r}", source)
    if len(record) == 2:
        return Node(kind, inputs)
    title, meta = _title(record)
    return Node(kind, inputs, title, meta=meta)


def write_api(graph: Graph) -> dict[str, dict[str, Any]]:
    """The API document of a graph; links by index stay as they were, named ones must be resolved first.

    Raises:
        FormatError: if a link names its port, which the format cannot hold.
    """
    document: dict[str, dict[str, Any]] = {}
    for node_id, node in graph.nodes.items():
        record: dict[str, Any] = {"class_type": node.kind}
        record["inputs"] = {name: _written(value, name, node_id) for name, value in node.inputs.items()}
        meta = dict(node.meta)
        if node.title or "_meta" in meta:
            inner = meta.pop("_meta", None)
            inner = dict(inner) if isinstance(inner, dict) else {}
            if node.title:
                inner["title"] = node.title
            elif "title" in inner:
                del inner["title"]
            record["_meta"] = inner
        record.update(meta)
        document[node_id] = record
    return document


def _title(record: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    meta = {k: v for k, v in record.items() if k not in _KNOWN and k not in _DROPPED}
    inner = record.get("_meta")
    if isinstance(inner, dict):
        meta["_meta"] = inner
        title = inner.get("title")
        if isinstance(title, str):
            return title, meta
    return "", meta


def _value(value: Any, where: str, source: str) -> Any:
    """A value with links recognised and wrapped arrays unwrapped."""
    if type(value) is list:
        if len(value) == 2 and type(value[0]) is str and type(value[1]) in {int, float}:
            slot = value[1]
            if slot != int(slot) or slot < 0:
                msg = f"{where}: {value!r} is no link, outputs are counted 0, 1, 2, ..."
                raise FormatError(msg, source=source)
            return Link(value[0], int(slot))
        _check_depth(value, where, source)
        return value
    if type(value) is dict:
        if "__value__" in value:
            inner = value["__value__"]
            _check_depth(inner, where, source)
            return inner
        _check_depth(value, where, source)
    return value


def _check_depth(value: Any, where: str, source: str) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        following: list[Any] = []
        for item in level:
            if type(item) is list:
                following.extend(item)
            elif type(item) is dict:
                following.extend(item.values())
        if not following:
            return
        level = following
    msg = f"{where}: arrays and objects nest deeper than {MAX_DEPTH}"
    raise FormatError(msg, source=source)


def _check_text(value: str, where: str, source: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as cause:
        msg = f"{where}: the text holds half of a surrogate pair"
        raise FormatError(msg, source=source) from cause


def _written(value: Any, name: str, node_id: str) -> Any:
    if type(value) is Link:
        if type(value.port) is not int:
            msg = f"input {name!r} of node {node_id!r} is linked to {value.node}.{value.port}; the API format needs an index"
            raise FormatError(msg)
        return [value.node, value.port]
    if isinstance(value, list):
        return {"__value__": value}
    if isinstance(value, float) and not math.isfinite(value):
        msg = f"input {name!r} of node {node_id!r} is {value}, which JSON cannot hold"
        raise FormatError(msg)
    return value


def _type(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
