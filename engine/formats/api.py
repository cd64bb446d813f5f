"""The API format: a JSON object from node id to kind and inputs.

A link is an array of a string and a whole number; `{"__value__": [...]}` is an array that is no link, and so is an array
of any other shape. An array of a string and a number that counts no output (`["1", -1]`, `["1", 0.5]`, `["1", NaN]`) is
refused: ComfyUI takes it for a link as well.

Whatever else a node says is kept and written back: `_meta`, unknown members, and what stands beside a `__value__`.
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
    from collections.abc import Iterator, Mapping

MAX_BYTES = 16 * 1024 * 1024
"""The largest document that is parsed."""

MAX_NODES = 10_000
"""The most nodes of a workflow."""

MAX_DEPTH = 64
"""How deep arrays and objects may nest."""

MARSHAL_VERSION = 2
"""The last without references between objects: equal values have equal bytes, and `1` is not `1.0`."""

_NEW = tuple.__new__  # a Link without the detour through its constructor: half of the time of reading a link
_KNOWN = frozenset({"class_type", "inputs"})
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
    is_ours: bool = False,
) -> Graph:
    """A graph from a parsed API document.

    Args:
        document: The parsed JSON.
        source: What to call it in errors.
        extra: Kept as the graph's `extra`.
        known: Nodes of an earlier version by id, with what they were read from. A node that reads the same comes back as
            the same object, so that comparing versions costs nothing; this mapping is brought up to date.
        is_ours: Nobody else holds the document, so the graph may keep parts of it. Otherwise it is copied, so that whoever
            edits it changes no graph, and no node changes the document.

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
        if not isinstance(node_id, str):
            msg = f"the id {node_id!r} of a node is {_type(node_id)}, not a text"
            raise FormatError(msg, source=source)
        if not node_id.isascii():
            _check_text(node_id, f"the id of node {node_id!r}", source)
        if known is not None:
            raw = marshal.dumps(record, MARSHAL_VERSION)
            before = known.get(node_id)
            if before is not None and before[0] == raw:
                nodes[node_id] = before[1]
                continue
            known[node_id] = raw, read_node(node_id, record, source, is_ours=is_ours)
            nodes[node_id] = known[node_id][1]
        else:
            nodes[node_id] = read_node(node_id, record, source, is_ours=is_ours)
    return Graph(nodes, dict(extra)) if extra else Graph(nodes)


def read_node(node_id: str, record: Any, source: str, *, is_ours: bool) -> Node:
    """The node of a record, see `read_api`.

    Raises:
        FormatError: if it is none; the message names it.
    """
    if type(record) is not dict:
        msg = f"node {node_id!r} is {_type(record)}, not an object"
        raise FormatError(msg, source=source)
    kind = record.get("class_type")
    if type(kind) is not str:
        what = "has no class_type" if kind is None else f"has {_type(kind)} as class_type"
        msg = f"node {node_id!r} {what}"
        raise FormatError(msg, source=source)
    if not kind.isascii():
        _check_text(kind, f"the class_type of node {node_id!r}", source)
    given = record.get("inputs")
    if given is None:
        given = {}
    elif type(given) is not dict:
        msg = f"the inputs of node {node_id!r} are {_type(given)}, not an object"
        raise FormatError(msg, source=source)
    inputs = given if is_ours else dict(given)
    wrappers: dict[str, Any] | None = None
    for name, value in given.items():
        if type(name) is not str or not name.isascii():
            _check_name(name, f"an input of node {node_id!r}", source)
        kind_of_value = type(value)
        if kind_of_value is list or kind_of_value is dict:
            if inputs is given:
                inputs = dict(given)
            if (
                kind_of_value is list
                and len(value) == 2
                and type(value[0]) is str
                and type(value[1]) is int
                and value[1] >= 0
                and value[0].isascii()
            ):
                inputs[name] = _NEW(Link, value)
            else:
                inputs[name], wrapper = _value(value, f"input {name!r} of node {node_id!r}", source, is_ours=is_ours)
                if wrapper is not None:
                    wrappers = wrappers or {}
                    wrappers[name] = wrapper
        elif kind_of_value is str and not value.isascii():
            _check_text(value, f"input {name!r} of node {node_id!r}", source)
    if wrappers is None and len(record) == 2 and "inputs" in record:
        return Node(kind, inputs)
    about, title = record.get("_meta"), None
    if type(about) is dict:
        title = about.get("title")
        if (
            wrappers is None
            and len(record) == 3
            and "inputs" in record
            and type(title) is str
            and len(about) == 1
            and title.isascii()
        ):
            return Node(kind, inputs, title, meta={"_meta": {"title": title}})  # as most are
    meta = {k: v for k, v in record.items() if k not in _KNOWN and k not in _DROPPED}
    check_value(meta, f"node {node_id!r}", source)
    if not is_ours:
        meta = _copied(meta)
    if wrappers is not None:
        meta["inputs"] = wrappers
    return Node(kind, inputs, title if isinstance(title, str) else "", meta=meta)


def write_api(graph: Graph) -> dict[str, dict[str, Any]]:
    """The API document of a graph; links by index stay as they were, named ones must be resolved first.

    Raises:
        FormatError: if a link names its port, which the format cannot hold.
    """
    document: dict[str, dict[str, Any]] = {}
    for node_id, node in graph.nodes.items():
        record: dict[str, Any] = {"class_type": node.kind}
        meta = dict(node.meta)
        wrappers = meta.pop("inputs", {})
        record["inputs"] = {name: _written(value, name, node_id, wrappers.get(name)) for name, value in node.inputs.items()}
        if node.title or "_meta" in meta:
            record["_meta"] = _titled(meta.pop("_meta", None), node.title)
        record.update(_copied(meta))
        document[node_id] = record
    return document


def _titled(about: Any, title: str) -> Any:
    """What a node says in `_meta`, with its title now; a title that is none (empty, no text) stays as it was."""
    if not isinstance(about, dict):
        return {"title": title} if title else _copied(about)
    about = _copied(about)
    if title:
        about["title"] = title
    elif about.get("title") and isinstance(about["title"], str):
        del about["title"]
    return about


def _value(value: Any, where: str, source: str, *, is_ours: bool) -> tuple[Any, dict[str, Any] | None]:
    """(value, wrapper): links recognised, wrapped values unwrapped; the wrapper where writing must know of it."""
    if type(value) is list and len(value) == 2 and type(value[0]) is str and type(value[1]) in {int, float}:
        node, slot = value
        if not (slot >= 0 and slot == slot // 1):  # infinity // 1 is NaN
            msg = f"{where}: {value!r} is no link, outputs are counted 0, 1, 2, ..."
            raise FormatError(msg, source=source)
        _check_text(node, where, source)
        return Link(node, int(slot)), None
    check_value(value, where, source)
    if not is_ours:
        value = _copied(value)
    if type(value) is dict and "__value__" in value:
        inner = value["__value__"]
        return inner, None if len(value) == 1 and _is_wrapped(inner) else {**value, "__value__": None}
    return value, None


def _is_wrapped(value: Any) -> bool:
    """Whether a value is written inside `__value__`, since it would read as something else without."""
    return isinstance(value, list | tuple) or (isinstance(value, dict) and "__value__" in value)


def check_value(value: Any, where: str, source: str) -> None:
    """Refuse a parsed value that nests too deeply, and texts that are none; memory grows with the depth, not with the size."""
    above: list[Iterator[Any]] = []
    items: Iterator[Any] = iter((value,))
    while True:
        for item in items:
            kind = type(item)
            if kind is str:
                if not item.isascii():
                    _check_text(item, where, source)
            elif kind is list or kind is dict:
                above.append(items)
                if len(above) > MAX_DEPTH:
                    msg = f"{where}: arrays and objects nest deeper than {MAX_DEPTH}"
                    raise FormatError(msg, source=source)
                if kind is dict:
                    for name in item:
                        if type(name) is not str or not name.isascii():
                            _check_name(name, f"{where}: a member", source)
                    items = iter(item.values())
                else:
                    items = iter(item)
                break
        else:
            if not above:
                return
            items = above.pop()


def _copied(value: Any) -> Any:
    """A value with its arrays and objects copied; for values whose depth is checked."""
    if type(value) is list:
        return [_copied(v) for v in value]
    if type(value) is dict:
        return {k: _copied(v) for k, v in value.items()}
    return value


def _check_name(name: Any, where: str, source: str) -> None:
    if not isinstance(name, str):
        msg = f"{where} is called {name!r}: {_type(name)}, not a text"
        raise FormatError(msg, source=source)
    _check_text(name, f"{where} is called {name!r}", source)


def _check_text(value: str, where: str, source: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as cause:
        msg = f"{where}: the text holds half of a surrogate pair"
        raise FormatError(msg, source=source) from cause


def _written(value: Any, name: str, node_id: str, wrapper: dict[str, Any] | None) -> Any:
    if type(value) is Link:
        if type(value.port) is not int:
            msg = f"input {name!r} of node {node_id!r} is linked to {value.node}.{value.port}; the API format needs an index"
            raise FormatError(msg)
        return [value.node, value.port]
    if isinstance(value, float) and not math.isfinite(value):
        msg = f"input {name!r} of node {node_id!r} is {value}, which JSON cannot hold"
        raise FormatError(msg)
    if wrapper is not None:
        return {**_copied(wrapper), "__value__": _copied(value)}
    return {"__value__": _copied(value)} if _is_wrapped(value) else _copied(value)


def _type(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a text", bool: "a boolean", type(None): "null"}
    names |= {int: "a number", float: "a number"}
    return names.get(type(value)) or f"a {type(value).__qualname__}"
