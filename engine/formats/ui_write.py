"""A graph as a document in the page's own format.

A graph that was read from such a document goes back into it: values are put where they were read from, and everything
else stays as it was. A graph of another origin, or one whose nodes or links changed, is laid out anew, from left to right.
"""

from __future__ import annotations

import json
import marshal
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.errors import FormatError
from engine.formats import widgets
from engine.formats.api import MARSHAL_VERSION
from engine.formats.ui import Level, Part, is_ui, levels, read_ui
from engine.graph import Graph, Link, Mode, Node
from engine.schema import MISSING, Group, flat

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engine.schema import Catalog, Kind

_COLUMN_GAP, _ROW_GAP = 60, 50
_WIDTH, _WIDE = 300, 400
_HEAD, _SLOT_HEIGHT, _WIDGET_HEIGHT, _TEXT_HEIGHT = 40, 20, 26, 110
_MODES = {Mode.ACTIVE: 0, Mode.MUTED: 2, Mode.BYPASSED: 4}


def write_ui(graph: Graph, catalog: Catalog | None = None) -> dict[str, Any]:
    """The document of a graph.

    Args:
        graph: The graph; the document that it was read from is its `extra["workflow"]`.
        catalog: The installed kinds.

    Returns:
        The document that it was read from with the values that the graph has now, or a new one.
    """
    document = graph.extra.get("workflow")
    if is_ui(document):
        current = updated(document, graph, catalog)
        if current is not None:
            return current
    return _laid_out(graph, catalog)


def updated(document: dict[str, Any], graph: Graph, catalog: Catalog | None = None) -> dict[str, Any] | None:
    """The document that `graph` was read from with the values that the graph has now.

    Returns:
        The document itself where nothing changed; None where the change cannot be put into it: nodes or links are others,
        or one place holds the values of several nodes that now differ.
    """
    try:
        before = read_ui(document, catalog)
    except FormatError:
        return None
    if before.nodes.keys() != graph.nodes.keys():
        return None
    changes = {i: _changed(before.nodes[i], node) for i, node in graph.nodes.items() if before.nodes[i] is not node}
    changes = {i: changed for i, changed in changes.items() if changed}
    titles = {i: node.title for i, node in graph.nodes.items() if node.title != before.nodes[i].title}
    if not changes and not titles:
        return document
    try:
        edited = json.loads(json.dumps(document))
    except (TypeError, ValueError, RecursionError):  # made by a program, of values that are no JSON
        return None
    root, definitions = levels(edited)
    for path, values in changes.items():
        for name, value in values.items():
            if type(value) is Link or not _put(root, definitions, path.split(":"), name, value, catalog):
                return None
    for path, title in titles.items():
        if ":" not in path and path in root.nodes:
            _record(root.nodes[path])["title"] = title
    return edited if _same(read_ui(edited, catalog), graph) else None


def _changed(before: Node, after: Node) -> dict[str, Any]:
    """The inputs of `after` that differ; a link where one appeared, moved or went."""
    names = before.inputs.keys() | after.inputs.keys()
    return {n: after.inputs.get(n, Link("")) for n in names if not _equal(before.inputs.get(n), after.inputs.get(n))}


def _equal(one: Any, other: Any) -> bool:
    if one is other or type(one) is not type(other) or type(one) is Link:
        return one == other and type(one) is type(other)
    try:
        return marshal.dumps(one, MARSHAL_VERSION) == marshal.dumps(other, MARSHAL_VERSION)
    except ValueError:  # a value that is no JSON
        return False


def _same(one: Graph, other: Graph) -> bool:
    return one.nodes.keys() == other.nodes.keys() and not any(_changed(n, other.nodes[i]) for i, n in one.nodes.items())


def _record(part: Part) -> dict[str, Any]:
    assert isinstance(part.record, dict)  # noqa: S101 - parsed from JSON
    return part.record


def _put(
    level: Level, definitions: Mapping[str, Level], path: list[str], name: str, value: Any, catalog: Catalog | None
) -> bool:
    """Put a value where the document keeps it: a widget, a primitive, or what a subgraph promotes."""
    around: list[Part] = []
    inside: list[Level] = [level]
    for step in path[:-1]:
        part = inside[-1].nodes.get(step)
        if part is None or part.type not in definitions:
            return False
        around.append(part)
        inside.append(definitions[part.type])
    target = inside[-1].nodes.get(path[-1])
    if target is None:
        return False
    slot = next((s for s in target.inputs if name in (s.widget, s.name) and s.link is not None), None)
    while slot is not None and slot.link is not None:
        wire = inside[-1].wires.get(slot.link)
        if wire is None:
            break
        origin = inside[-1].nodes.get(wire.origin)
        if origin is not None and origin.type == "PrimitiveNode" and isinstance(origin.values, list) and origin.values:
            origin.values[0] = value
            return True
        if wire.origin != "-10" or not around:
            break
        promoted = inside.pop().inputs[wire.origin_slot]
        instance = around.pop()
        slot = next((s for s in instance.inputs if s.name == promoted), None)
        if slot is None or slot.link is None:
            return _put_promoted(_record(instance), promoted, value, definitions[instance.type])
    return _put_widget(target, name, value, catalog)


def _put_promoted(record: dict[str, Any], name: str, value: Any, level: Level) -> bool:
    named, values = record.get("widgets_values_named"), record.get("widgets_values")
    if isinstance(named, dict):
        named[name] = value
    if isinstance(values, list) and name in level.widgets and level.widgets.index(name) < len(values):
        values[level.widgets.index(name)] = value
        return True
    return isinstance(named, dict)


def _put_widget(part: Part, name: str, value: Any, catalog: Catalog | None) -> bool:
    record = _record(part)
    named, values = record.get("widgets_values_named"), record.get("widgets_values")
    if isinstance(named, dict):
        named[name] = value
    if isinstance(values, dict):
        values[name] = value
        return True
    layout = widgets.layout(part.type, catalog)
    if isinstance(values, list) and layout is not None:
        # The entry is the one whose change reads as a change of this input and of nothing else.
        before = widgets.by_name(values, layout)
        for place, old in enumerate(values):
            mark = object()
            values[place] = mark
            if widgets.by_name(values, layout) == {**before, name: mark}:
                values[place] = value
                return True
            values[place] = old
    return isinstance(named, dict)


class _Box(NamedTuple):
    """A node of a new document: its record and its height."""

    record: dict[str, Any]
    height: int


def _laid_out(graph: Graph, catalog: Catalog | None) -> dict[str, Any]:
    """A new document: nodes in columns, each to the right of everything that it depends on."""
    numbers = _numbers(graph)
    outputs = _used_outputs(graph, catalog)
    links: list[list[Any]] = []
    boxes: dict[str, _Box] = {}
    for node_id, node in graph.nodes.items():
        kind = catalog.get(node.kind) if catalog is not None else None
        boxes[node_id] = _box(node_id, node, kind, catalog, numbers=numbers, outputs=outputs, links=links)
    ids = {number: node_id for node_id, number in numbers.items()}
    for link_id, origin, slot, *_ in links:
        boxes[ids[origin]].record["outputs"][slot]["links"].append(link_id)
    _place(graph, boxes)
    return {
        "last_node_id": max(numbers.values(), default=0),
        "last_link_id": len(links),
        "nodes": [box.record for box in boxes.values()],
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def _numbers(graph: Graph) -> dict[str, int]:
    """A number for every node: its own where its id is one."""
    numbers = {i: int(i) for i in graph.nodes if i.isdecimal() and str(int(i)) == i and len(i) < 10}
    free = max(numbers.values(), default=0)
    for node_id in graph.nodes:
        if node_id not in numbers:
            free += 1
            numbers[node_id] = free
    return numbers


def _used_outputs(graph: Graph, catalog: Catalog | None) -> dict[str, list[tuple[str, str]]]:
    """(name, type) of the outputs of every node; those of unknown kinds as far as links use them."""
    found: dict[str, list[tuple[str, str]]] = {}
    for node_id, node in graph.nodes.items():
        kind = catalog.get(node.kind) if catalog is not None else None
        found[node_id] = [(output.name, output.type) for output in kind.outputs] if kind is not None else []
    for _, _, link in graph.links():
        if isinstance(link.port, int) and link.node in found:
            names = found[link.node]
            names.extend((f"output {i}", "*") for i in range(len(names), link.port + 1))
    return found


def _box(
    node_id: str,
    node: Node,
    kind: Kind | None,
    catalog: Catalog | None,
    *,
    numbers: Mapping[str, int],
    outputs: Mapping[str, list[tuple[str, str]]],
    links: list[list[Any]],
) -> _Box:
    layout = widgets.layout(node.kind, catalog)
    if layout is not None:
        layout = widgets.shown(layout, node.inputs)
    kind = kind.chosen(node.inputs) if kind is not None else None
    shown = {widget.name for widget in layout if not widget.is_socket} if layout is not None else None
    if shown is None:
        shown = {name for name, value in node.inputs.items() if type(value) is not Link}
    grown = {name for part in kind.parts if isinstance(part, Group) for name in flat([part], {})} if kind is not None else set()
    sockets = [n for n in kind.inputs if n not in shown and (n not in grown or n in node.inputs)] if kind is not None else []
    unlisted = {n for n, v in node.inputs.items() if type(v) is not Link and (layout is None or n not in shown)}
    sockets += [n for n, v in node.inputs.items() if n not in sockets and (type(v) is Link or n in unlisted)]
    inputs = []
    for place, name in enumerate(sockets):
        value = node.inputs.get(name)
        port = kind.inputs.get(name, kind.variadic) if kind is not None else None
        type_ = port.type if port is not None else "*"
        record: dict[str, Any] = {"name": name, "type": type_, "link": None}
        if name in shown or name in unlisted:
            record["widget"] = {"name": name}
        if type(value) is Link and value.node in numbers and isinstance(value.port, int):
            record["link"] = len(links) + 1
            given = outputs[value.node][value.port][1]
            links.append([len(links) + 1, numbers[value.node], value.port, numbers[node_id], place, given])
        inputs.append(record)
    values = _values(node, layout)
    is_wide = any(isinstance(v, str) and len(v) > 40 for v in values)
    texts = sum(isinstance(v, str) and len(v) > 40 for v in values)
    rows = max(len(inputs), len(outputs[node_id]))
    height = _HEAD + rows * _SLOT_HEIGHT + len(values) * _WIDGET_HEIGHT + texts * _TEXT_HEIGHT
    record = {
        "id": numbers[node_id],
        "type": node.kind,
        "pos": [0, 0],
        "size": [_WIDE if is_wide else _WIDTH, height],
        "flags": {},
        "order": 0,
        "mode": _MODES[node.mode],
        "inputs": inputs,
        "outputs": [{"name": name, "type": type_, "links": []} for name, type_ in outputs[node_id]],
        "properties": {"Node name for S&R": node.kind},
        "widgets_values": values,
    }
    if node.title:
        record["title"] = node.title
    if unlisted:
        record["widgets_values_named"] = {n: v for n, v in node.inputs.items() if type(v) is not Link}
    return _Box(record, height)


def _values(node: Node, layout: widgets.Layout | None) -> list[Any]:
    if layout is None:
        return [value for value in node.inputs.values() if type(value) is not Link]
    values: list[Any] = []
    for widget in layout:
        if widget.is_socket:
            continue
        value = node.inputs.get(widget.name, MISSING)
        values.append(widget.default if value is MISSING or type(value) is Link else value)
        values.extend(["fixed", ""][: widget.extra])
    return values


def _place(graph: Graph, boxes: Mapping[str, _Box]) -> None:
    """Give every node a column, to the right of what it depends on, and a place in it."""
    columns: dict[int, list[str]] = {}
    for node_id, column in _columns(graph).items():
        columns.setdefault(column, []).append(node_id)
    left = 0
    for order, column in enumerate(sorted(columns)):
        top = 0
        for node_id in columns[column]:
            record, height = boxes[node_id]
            record["pos"], record["order"] = [left, top], order
            top += height + _ROW_GAP
        left += max(boxes[i].record["size"][0] for i in columns[column]) + _COLUMN_GAP


def _columns(graph: Graph) -> dict[str, int]:
    """Id to the length of the longest way to it; nodes of a cycle come where it is met first."""
    found: dict[str, int] = {}
    opened: set[str] = set()
    for root in graph.nodes:
        stack = [root]
        while stack:
            node_id = stack[-1]
            above = [link.node for link in _links(graph.nodes[node_id].inputs.values()) if link.node in graph.nodes]
            waiting = [i for i in above if i not in found and i not in opened]
            if node_id in found:
                stack.pop()
            elif waiting and node_id not in opened:
                opened.add(node_id)
                stack.extend(waiting)
            else:
                found[node_id] = 1 + max((found.get(i, -1) for i in above), default=-1)
                stack.pop()
    return found


def _links(values: Iterable[Any]) -> Iterable[Link]:
    return (value for value in values if type(value) is Link)
