"""Muted and bypassed nodes: what the links of the others mean without them.

A muted node cuts its links. A bypassed node passes one of its inputs on: the declared one, else the one in the same
place, else the first whose type fits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.graph import Graph, Link, Mode, Node
from engine.schema import Catalog, Kind, compatible

if TYPE_CHECKING:
    from collections.abc import Mapping


def without_inactive(graph: Graph, catalog: Catalog) -> Mapping[str, Node]:
    """The nodes that take part, with links led around bypassed nodes and cut at muted ones."""
    nodes = graph.nodes
    if all(node.mode is Mode.ACTIVE for node in nodes.values()):
        return nodes
    active: dict[str, Node] = {}
    for node_id, node in nodes.items():
        if node.mode is not Mode.ACTIVE:
            continue
        inputs: dict[str, Any] = {}
        for name, value in node.inputs.items():
            if type(value) is Link:
                kind = catalog.get(node.kind)
                port = kind.chosen(node.inputs).inputs.get(name) if kind else None
                resolved = _passed(graph, catalog, value, port.type if port else "*")
                if resolved is not None:
                    inputs[name] = resolved
            else:
                inputs[name] = value
        active[node_id] = Node(node.kind, inputs, node.title, node.mode, node.meta)
    return active


def _passed(graph: Graph, catalog: Catalog, link: Link, wanted: str) -> Any:
    """What stands for a link after bypassing: a link to an active node, a value, or None where a muted node cuts it."""
    seen: set[str] = set()
    value: Any = link
    while type(value) is Link:
        node = graph.nodes.get(value.node)
        if node is None or node.mode is Mode.ACTIVE:
            return value
        if node.mode is Mode.MUTED or value.node in seen:
            return None
        seen.add(value.node)
        kind = catalog.get(node.kind)
        name = _bypass_input(kind, value.port, node, wanted) if kind else None
        value = node.inputs.get(name) if name else None
    return value


def _bypass_input(kind: Kind, port: int | str, node: Node, wanted: str) -> str | None:
    """The input that passes through a bypassed node: declared, else the same place, else the first that fits."""
    index = kind.output_index(port)
    if index is None:
        return None
    output = kind.outputs[index]
    if output.name in kind.bypass:
        return kind.bypass[output.name]
    inputs = list(kind.chosen(node.inputs).inputs.values())
    if index < len(inputs) and compatible(inputs[index].type, output.type) and compatible(inputs[index].type, wanted):
        return inputs[index].name
    fitting = [p for p in inputs if p.type == wanted] or [
        p for p in inputs if compatible(p.type, output.type) and compatible(p.type, wanted) and not p.is_widget
    ]
    linked = [p for p in fitting if p.name in node.inputs]
    return (linked or fitting)[0].name if fitting else None
